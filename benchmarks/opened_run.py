"""What the settings of ``speakerquant`` name, opened for benchmarks."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra import compose, initialize_config_dir

from speakerquant.cache import Cache
from speakerquant.commands.console_script import config_folder
from speakerquant.configuration.opening import Inputs, open_cache, open_inputs, open_model, open_ranges
from speakerquant.configuration.schema import RunConfig, register_schemas, typed
from speakerquant.quantization.ranges import CalibrationTable


@dataclass(frozen=True)
class OpenedRun:
    """A configuration with what its masks share."""

    config: RunConfig
    cache: Cache
    inputs: Inputs
    table: CalibrationTable


def open_run(overrides: Sequence[str]) -> OpenedRun:
    """The configuration of ``speakerquant`` with these overrides, opened."""
    register_schemas()
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = typed(compose("run", overrides=list(overrides)), RunConfig)
    cache = open_cache(config.cache)
    inputs = open_inputs(config, open_model(config.model), cache)
    return OpenedRun(config, cache, inputs, open_ranges(config.calibration, inputs, cache))
