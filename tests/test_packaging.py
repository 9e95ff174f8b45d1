"""A non-editable install carries its configuration along and works from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[1]


def test_wheel_brings_configuration_and_runs_from_any_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, str(tmp_path / "dist")], cwd=PROJECT, check=True, capture_output=True)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-m", "speakerquant.commands.evaluate_mask", "--cfg", "job", "mask=all"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    printed = subprocess.run(
        command, cwd=elsewhere, env=environment, check=True, capture_output=True, text=True
    )
    assert yaml.safe_load(printed.stdout)["mask"] == {"@": "all"}
    site = tmp_path / "site" / "speakerquant"
    assert (site / "conf" / "run.yaml").is_file()
    assert (tmp_path / "site" / "hydra_plugins" / "optuna_sweeper" / "sweeper.py").is_file()
    assert (site / "architectures" / "ecapa_tdnn" / "shipped" / "ecapa_tdnn.safetensors").is_file()
