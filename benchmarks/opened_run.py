"""What the settings of ``speakerquant`` name, opened for benchmarks."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra import compose, initialize_config_dir

from speakerquant.commands.console_script import config_folder
from speakerquant.configuration.composing import compose_once
from speakerquant.configuration.conversion import typed
from speakerquant.configuration.opening import open_cache, open_evaluator, open_model
from speakerquant.configuration.schema import RunConfig, register_schemas
from speakerquant.measuring.evaluator import MaskEvaluator


@dataclass(frozen=True)
class OpenedRun:
    """A configuration with what evaluates its masks."""

    config: RunConfig
    evaluator: MaskEvaluator


def open_run(overrides: Sequence[str]) -> OpenedRun:
    """The configuration of ``speakerquant`` with these overrides, opened."""
    register_schemas()
    compose_once()  # as the command does
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = typed(compose("run", overrides=list(overrides)), RunConfig)
    cache = open_cache(config.cache)
    return OpenedRun(config, open_evaluator(config, open_model(config.model, cache), cache))
