"""The experiments and networks that come with the project."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from omegaconf import open_dict

from speakerquant.commands.console_script import config_folder
from speakerquant.configuration.conversion import typed
from speakerquant.configuration.schema import RunConfig, register_schemas
from speakerquant.errors import UserError

EXPERIMENTS = sorted(path.stem for path in Path(config_folder(), "experiment").glob("*.yaml"))
KINDS_OF_FILES = ("onnx", "pyannote", "speechbrain", "three_d_speaker", "voxceleb_trainer", "wespeaker")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_made_of_settings_that_there_are(name: str) -> None:
    register_schemas()
    with initialize_config_dir(config_folder(), version_base="1.3"):
        overrides = [f"experiment={name}", "data.root=here", "data.calibration_root=there"]
        config = compose("run", overrides, return_hydra_config=True)
    assert config.hydra.mode is RunMode.MULTIRUN
    with open_dict(config):
        del config["hydra"]
    typed(config, RunConfig)


@pytest.mark.parametrize("name", KINDS_OF_FILES)
def test_a_network_that_is_a_file_is_refused_without_one(name: str) -> None:
    register_schemas()
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("run", [f"model={name}"])
    with pytest.raises(UserError, match=r"^model\.checkpoint: not set"):
        typed(config, RunConfig)
