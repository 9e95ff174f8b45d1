"""Fixtures that several folders of tests share."""

import copy
import functools
import gc
import io
import os
import shlex
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import absl.logging
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from cllr import CLLR
from omegaconf import DictConfig, ListConfig, OmegaConf
from sqlalchemy import Engine, event
from torch import nn
from toy_network import TOY
from varied_network import VARIED

from speakerquant.architectures import registry
from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.checkpoint_sources import shipped_checkpoint
from speakerquant.architectures.checkpoints import load_checkpoint
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.audio.features import CachedFeatures, Features, extract_features
from speakerquant.cache import Cache
from speakerquant.corpus.recordings import find_recordings
from speakerquant.graph.export import export_network
from speakerquant.graph.masking import write_mask
from speakerquant.quantization import precision
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.mask import Mask, baseline_mask
from speakerquant.quantization.precision import INT8, Precision, WeightFormat
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.statistics import error_metrics
from speakerquant.statistics.metric import ErrorMetric

# absl (under pytorch-quantization) keeps the stream that it found when imported, here pytest's own capture,
# and closes it when Hydra sets up logging.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__
# A shell's background jobs ignore Ctrl-C, and so would the processes that tests start to stop them.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Networks as small as those of these tests are faster on one thread, and several tests run beside each other.
torch.set_num_threads(1)
# As commands do: what is imported lives until the end, and is not looked through for garbage again and again.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage in what the tests make only."""
    gc.freeze()
    gc.enable()


_load = OmegaConf.load


@functools.cache
def _loaded(text: str) -> DictConfig | ListConfig:
    return _load(io.StringIO(text))


def _load_once(file: str | Path | IO[str]) -> DictConfig | ListConfig:
    """Parse each text once: hundreds of commands read the same configuration."""
    return _load(file) if isinstance(file, str | Path) else copy.deepcopy(_loaded(file.read()))


OmegaConf.load = staticmethod(_load_once)  # type: ignore[assignment]


@event.listens_for(Engine, "connect")
def _lose_what_a_power_cut_would(connection: object, _: object) -> None:
    """Do not wait for the disk at every commit: what processes see of each other is the same."""
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.DatabaseError):  # it is no database, as MLflow is to find out
            connection.execute("PRAGMA synchronous = OFF")


SMALL_ECAPA_TDNN = EcapaTdnnConfig(
    channels=64,
    res2net_scale=4,
    se_channels=16,
    aggregation_channels=96,
    attention_channels=32,
    embedding_dim=48,
)


@dataclass(frozen=True)
class Subject:
    """A network with its ranges, and other recordings ``[n_mels, T]`` than it was calibrated on."""

    network: SpeakerNetwork
    table: CalibrationTable
    recordings: list[npt.NDArray[np.float32]]


@functools.lru_cache(maxsize=4)
def exported_network(network: SpeakerNetwork) -> onnx.ModelProto:
    """The graph that masks are put on, exported once however many tests do so."""
    return export_network(network, network.n_mels)


def write_model(
    network: SpeakerNetwork,
    path: Path,
    mask: Mask | None = None,
    table: CalibrationTable | None = None,
    max_weight_bits: int = 8,
    properties: Mapping[str, str] | None = None,
) -> None:
    """Write the ONNX graph of a mask; without one, of the baseline."""
    write_mask(
        exported_network(network),
        mask or baseline_mask(network.units()),
        table or CalibrationTable("max", {}, {}),
        path,
        max_weight_bits=max_weight_bits,
        properties=properties,
    )


def console_script(name: str = "speakerquant") -> str:
    """Path of an installed command."""
    return str(Path(sys.executable).with_name(name))


@pytest.fixture
def tensorrt_stand_in(tmp_path: Path) -> Callable[..., str]:
    """Makes interpreters for ``engine.python``; the arguments are those of ``tensorrt_stand_in.py``."""

    def make(*arguments: str) -> str:
        path = tmp_path / f"python-{len(list(tmp_path.glob('python-*')))}"
        program = Path(__file__).with_name("tensorrt_stand_in.py")
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" {shlex.join(arguments)} "$@"\n')
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Makes a store of MLflow in a folder that nothing was recorded in; its tables take seconds to make."""
    from speakerquant.tracking.client import connect  # MLflow, for which tests of other things need not wait

    empty = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{empty}", "Default")

    def copy_into(folder: Path) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{shutil.copy(empty, folder)}"

    return copy_into


@pytest.fixture(scope="session")
def small() -> Subject:
    """A small network of random weights whose normalisations have seen the features they get."""
    network = _random_network(SMALL_ECAPA_TDNN)
    table = calibrate(network, [torch.from_numpy(x) for x in speechlike(8, seed=1)], "max")
    return Subject(network, table, speechlike(4, seed=2))


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The shipped checkpoint on three seconds of each of a few real recordings."""
    if "SPEAKERQUANT_LIBRISPEECH" not in os.environ:
        pytest.skip("SPEAKERQUANT_LIBRISPEECH does not name a folder of real speech")
    root = Path(os.environ["SPEAKERQUANT_LIBRISPEECH"]) / "train-clean-100"
    recordings = [root / name for name in find_recordings(root)][:22]
    model = load_checkpoint(shipped_checkpoint())
    cache = Cache(tmp_path_factory.mktemp("cache"))
    whole = extract_features(recordings, model.front_end, cache).features
    features = [np.ascontiguousarray(x[:, :300]) for x in whole]
    table = calibrate(model.network, [torch.from_numpy(x) for x in features[:16]])
    return Subject(model.network, table, features[16:])


@pytest.fixture
def onnx_path(small: Subject, tmp_path: Path) -> Path:
    """The small network in INT8 throughout, as backends are given it."""
    path = tmp_path / "model.onnx"
    write_model(small.network, path, Mask(small.network.units(), {"*": INT8}), small.table)
    return path


@pytest.fixture
def toy() -> Iterator[Architecture]:
    """A second architecture, known for the length of a test."""
    yield registry.register(TOY)
    del registry._BY_NAME[TOY.name]


@pytest.fixture
def varied() -> Iterator[Architecture]:
    """An architecture with layers of every kind, known for the length of a test."""
    yield registry.register(VARIED)
    del registry._BY_NAME[VARIED.name]


@pytest.fixture
def int6() -> Iterator[Precision]:
    """A precision of six-bit weights, known for the length of a test."""
    yield precision.register(Precision("int6", WeightFormat(6, is_fitted=False), input_bits=8))
    del precision._BY_NAME["int6"]


@pytest.fixture
def cllr() -> Iterator[ErrorMetric]:
    """A further error metric, known for the length of a test."""
    yield error_metrics.register(CLLR)
    del error_metrics._BY_NAME[CLLR.name]


def _random_network(config: EcapaTdnnConfig) -> EcapaTdnn:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = EcapaTdnn(config)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
                module.momentum = None
        network.train()
        network(torch.from_numpy(np.stack([x[:, :100] for x in speechlike(16, seed=0)])))
    return network.eval()


def cached_features(recordings: Sequence[npt.NDArray[np.float32]], folder: Path) -> CachedFeatures:
    """Features ``[n_mels, T]`` as the cache has those of recordings."""
    folder.mkdir()
    np.save(folder / "frames.npy", np.concatenate([each.T for each in recordings]))
    np.save(folder / "offsets.npy", np.cumsum([0, *(each.shape[1] for each in recordings)]))
    paths = [Path(f"{index}.wav") for index in range(len(recordings))]
    return CachedFeatures(Features(folder), str(folder), str(folder), paths, frames_per_second=100)


def speechlike(count: int, seed: int) -> list[npt.NDArray[np.float32]]:
    """Noise as smooth over time as log-mel features, with a spectrum for each recording."""
    generator = np.random.default_rng(seed)
    recordings = []
    for index in range(count):
        noise = generator.standard_normal((80, 104 + 23 * index))
        smooth = np.lib.stride_tricks.sliding_window_view(noise, 5, axis=1).mean(axis=2) * 3
        recordings.append((smooth + generator.standard_normal((80, 1))).astype(np.float32))
    return recordings
