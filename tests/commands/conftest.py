"""The commands as a user types them, on a small network and a few real sentences."""

import json
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from speakerquant.architectures.checkpoints import random_model, save_checkpoint
from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.audio.front_end import FrontEnd
from speakerquant.cache import Cache
from speakerquant.commands import evaluate_mask
from speakerquant.corpus.synthetic import TRIALS_FILE, Split, synthesize_split
from speakerquant.measuring.result import RESULT_FILE
from speakerquant.tracking.client import Tracking, connect

QUICK = ("engine=onnxruntime", "engine.latency_requests=0")
"""Settings for what does not depend on the engine: the one that is built soonest, and not timed."""


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Workspace:
    """A corpus, a checkpoint, a store and a cache that the tests of this folder share."""

    corpus: Path
    calibration: Path
    checkpoint: Path
    tracking_uri: str
    cache: Path

    def arguments(self) -> list[str]:
        """What every command needs to run on this workspace."""
        return [
            "data=folder",
            f"data.root={self.corpus}",
            f"data.trials={self.corpus / TRIALS_FILE}",
            f"data.calibration_root={self.calibration}",
            f"model.checkpoint={self.checkpoint}",
            f"tracking.uri={self.tracking_uri}",
            f"cache.root={self.cache}",
            "calibration.num_recordings=4",
            "rounding.num_recordings=4",
        ]

    @property
    def tracking(self) -> Tracking:
        return self.tracking_of("speakerquant")

    def tracking_of(self, experiment: str) -> Tracking:
        return connect(self.tracking_uri, experiment)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> Workspace:
    pytest.importorskip("espeakng_loader", reason="the extra 'synthetic' is not installed")
    folder = tmp_path_factory.mktemp("workspace")
    cache = Cache(folder / "cache")
    checkpoint = folder / "small.safetensors"
    architecture = EcapaTdnnConfig(
        channels=64,
        res2net_scale=2,
        aggregation_channels=192,
        attention_channels=32,
        se_channels=16,
    )
    model = random_model(ECAPA_TDNN, architecture, FrontEnd(), seed=0)
    save_checkpoint(checkpoint, model.network, FrontEnd())
    return Workspace(
        corpus=synthesize_split(Split("test", 4, 2, 2), 0, cache),
        calibration=synthesize_split(Split("calibration", 4, 1, 1), 0, cache),
        checkpoint=checkpoint,
        tracking_uri=new_store(folder / "mlruns"),
        cache=folder / "cache",
    )


Command = Callable[..., Finished]


def exit_code(main: Callable[[], None], *arguments: object) -> int:
    """Run an entry point with the given arguments, in this process."""
    environment = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["speakerquant", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        finally:
            # MLflow leaves the store's address there, which the next command would take for the user's.
            os.environ.clear()
            os.environ.update(environment)
    return 0


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Command:
    """An entry point with the given arguments, in this process."""

    def command(main: Callable[[], None], *arguments: object) -> Finished:
        code = exit_code(main, *arguments)
        captured = capsys.readouterr()
        return Finished(code, captured.out, captured.err)

    return command


@pytest.fixture
def speakerquant(invoke: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """``speakerquant`` with the given arguments, in this process and an empty folder."""

    def command(*arguments: str) -> Finished:
        monkeypatch.chdir(tmp_path)
        return invoke(evaluate_mask.main, *arguments)

    return command


_FINISHED = "tracking.experiment=finished"


@pytest.fixture(scope="session")
def finished_folder(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a multirun of the masks ``none`` and ``input_conv``."""
    folder = tmp_path_factory.mktemp("finished")
    command = ["-m", *workspace.arguments(), _FINISHED, f"hydra.sweep.dir={folder}", "mask=none,input_conv"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert exit_code(evaluate_mask.main, *command) == 0
    return folder


@pytest.fixture(scope="session")
def finished_multirun(finished_folder: Path) -> str:
    """The setting of an experiment that holds that multirun and no other."""
    return _FINISHED


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def development_list(workspace: Workspace) -> Path:
    """Another list over the workspace's recordings."""
    path = workspace.cache / "development.txt"
    path.write_text("".join((workspace.corpus / TRIALS_FILE).read_text().splitlines(keepends=True)[::2]))
    return path


def results(folder: Path) -> list[dict[str, Any]]:
    """Every ``result.json`` below the folder, in the order of the jobs."""
    return [json.loads(path.read_text()) for path in sorted(folder.rglob(RESULT_FILE))]
