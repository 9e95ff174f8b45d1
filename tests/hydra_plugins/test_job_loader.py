"""A job's configuration, composed by the sweeper and handed to the launcher."""

import pickle
from pathlib import Path

import cloudpickle
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from hydra_plugins.optuna_sweeper._job_loader import JobLoader

CONFIG = """
a: 0
hydra:
  sweep: {dir: sweep, subdir: "${hydra.job.num}-a${a}"}
"""


@pytest.fixture
def loader(tmp_path: Path) -> JobLoader:
    (tmp_path / "config.yaml").write_text(CONFIG)
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        return JobLoader(GlobalHydra.instance().config_loader())


def test_the_launcher_gets_what_the_sweeper_composed_and_what_composing_anew_gives(loader: JobLoader) -> None:
    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    config = loader.compose_job(master, ["a=2"], 7)
    assert config.hydra.sweep.subdir == "7-a2"
    overrides = loader.place_job(config, ["a=2"], "7-a2-2")
    elsewhere = pickle.loads(cloudpickle.dumps(loader))  # as launchers send it
    assert loader.load_sweep_config(master, overrides) is config
    for anew in (loader.load_sweep_config(master, overrides), elsewhere.load_sweep_config(master, overrides)):
        assert anew is not config
        anew.hydra.job.num = anew.hydra.job.id = 7  # as launchers do
        assert OmegaConf.to_yaml(anew) == OmegaConf.to_yaml(config)


def test_what_a_launcher_leaves_is_forgotten(loader: JobLoader) -> None:
    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    config = loader.compose_job(master, ["a=2"], 0)
    overrides = loader.place_job(config, ["a=2"], "0-a2")
    loader.forget_jobs()
    assert loader.load_sweep_config(master, overrides) is not config
