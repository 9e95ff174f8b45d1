"""``speakerquant-train`` on two processes: one network, and after a kill it goes on as if there was none."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import console_script
from safetensors.torch import load_file

from speakerquant.corpus.trials import write_trials
from speakerquant.tracking.client import connect

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

SMALL = ("channels=16", "aggregation_channels=48", "attention_channels=8", "se_channels=8")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    root = tmp_path / "speech"
    rng = np.random.default_rng(0)
    for name in ("id0/0.wav", "id0/1.wav", "id1/0.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, 0.1 * rng.standard_normal(12000), 16000)
    write_trials(
        tmp_path / "trials.txt", [(True, "id0/0.wav", "id0/1.wav"), (False, "id0/0.wav", "id1/0.wav")]
    )
    return root


def training(speech: Path, output: Path) -> "subprocess.Popen[str]":
    """The command, started; a group of processes of its own."""
    folder = speech.parent
    given = {
        "training_data.root": speech,
        "training_data.synthetic_share": 0,
        "validation.root": speech,
        "validation.trials": folder / "trials.txt",
        "batch_size": 2,
        "crop_seconds": 0.3,
        "training.num_steps": 40,
        "training.warmup_steps": 4,
        "training.validate_every": 10,
        "accelerator": "cpu",
        "precision": "32-true",
        "devices": 2,
        "output": output,
        "cache.root": folder / "cache",
        "tracking.uri": tracking_uri(folder),
        "hydra.run.dir": folder / "hydra",
    }
    command = [
        console_script("speakerquant-train"),
        *(f"++model.architecture.{setting}" for setting in SMALL),
        *(f"{key}={value}" for key, value in given.items()),
    ]
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def finish(process: "subprocess.Popen[str]") -> str:
    printed = process.communicate(timeout=240)[0]
    assert process.returncode == 0, printed
    return printed


def tracking_uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def test_two_processes_that_were_killed_go_on_as_if_they_were_not(speech: Path, tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken.safetensors", tmp_path / "broken.safetensors"
    finish(training(speech, unbroken))
    process = training(speech, broken)
    until = time.monotonic() + 240
    while not broken.with_suffix(".state").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not broken.exists()
    assert "resuming from" in finish(training(speech, broken))

    weights, others = load_file(unbroken), load_file(broken)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    tracking = connect(tracking_uri(tmp_path), "speakerquant")
    runs = tracking.client.search_runs([tracking.experiment_id], order_by=["attributes.start_time"])
    assert [run.info.status for run in runs] == ["FINISHED", "FAILED", "FINISHED"]
    steps = [
        metric.step for metric in tracking.client.get_metric_history(runs[2].info.run_id, "validation_eer")
    ]
    assert steps == [20, 30, 40]
