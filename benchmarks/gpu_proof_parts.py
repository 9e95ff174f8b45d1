"""The measurements of ``gpu_proof.py``, on features that need no recording."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from speakerquant.architectures.checkpoint_sources import shipped_checkpoint
from speakerquant.architectures.checkpoints import load_checkpoint, random_model
from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.audio.front_end import FrontEnd
from speakerquant.cache import Cache
from speakerquant.engine.backends import engine_builder
from speakerquant.engine.base import Engine, EngineBuilder, Lengths
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtRtxSettings
from speakerquant.errors import UserError
from speakerquant.graph.export import export_network
from speakerquant.graph.masking import write_mask
from speakerquant.measuring.check import fidelity
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.measuring.latency import measure_latency
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import INT8
from speakerquant.quantization.simulate import simulate

LENGTHS = Lengths(300, 1000)
Features = npt.NDArray[np.float32]
Row = tuple[str, dict[str, Any]]


def running_builders(
    names: Sequence[str], python: str | None, cache: Path
) -> tuple[dict[str, EngineBuilder], dict[str, str]]:
    """The engines that run on this machine, and of the others why they do not."""
    builders, reasons = {}, {}
    for name in names:
        try:
            builder = engine_builder(name, TensorRtRtxSettings(python=python), Cache(cache))
        except UserError as error:
            reasons[name] = str(error)
            continue
        if builder.executes:
            builders[name] = builder
        else:
            reasons[name] = (
                f"{name} builds for {builder.environment['compute capability']} and does not run here"
            )
    return builders, reasons


class Proof:
    """What is measured of one engine.

    Args:
        builder: Builds it.
        folder: For ONNX files.
        deadline: Of ``time.monotonic``; what is not begun by then is not measured.
    """

    def __init__(self, builder: EngineBuilder, folder: Path, deadline: float) -> None:
        self._builder = builder
        self._folder = folder
        self._deadline = deadline
        self._network = load_checkpoint(shipped_checkpoint()).network
        self._table = calibrate(self._network, [torch.from_numpy(x) for x in _features(8, seed=1)], "max")

    def masks(self) -> Iterator[Row]:
        """Size, fidelity, latency and seconds of the build of each named mask."""
        exported = export_network(self._network, self._network.n_mels)
        recordings = _features(6, seed=2)
        request = np.resize(recordings[0], (self._network.n_mels, 300))
        for name, mask in _masks(self._network).items():
            if time.monotonic() > self._deadline:
                yield name, {"not reached": "no time was left"}
                continue
            write_mask(exported, mask, self._table, self._folder / "model.onnx")
            engine, seconds = self._built()
            with engine:
                reference = embed_with_network(simulate(self._network, mask, self._table), recordings)
                agreement = fidelity(np.stack(list(engine.embed_many(recordings))), reference)
                latency = measure_latency(engine, request)
            yield (
                name,
                {
                    "size_mb": engine.size_bytes / 1e6,
                    "fidelity": agreement,
                    "latency_ms_p50": latency.ms_p50,
                    "latency_ms_p95": latency.ms_p95,
                    "build_s": seconds,
                },
            )

    def built_again(self) -> Mapping[str, float]:
        """Size and seconds of the last mask's build once more, when its kernels have been timed before."""
        if time.monotonic() > self._deadline:
            return {}
        engine, seconds = self._built()
        with engine:
            return {"size_mb": engine.size_bytes / 1e6, "build_s": seconds}

    def paper(self) -> Iterator[Row]:
        """Sizes at the paper's width, beside the paper's."""
        network = random_model(ECAPA_TDNN, EcapaTdnnConfig(channels=1024), FrontEnd(), seed=0).network
        exported = export_network(network, network.n_mels)
        table = calibrate(network, [torch.from_numpy(x) for x in _features(2, seed=1)], "max")
        for units, paper in PUBLISHED.by_int8_units.items():
            name = "paper" if units == PUBLISHED.proposed_units else ", ".join(units) or "none"
            if time.monotonic() > self._deadline:
                yield name, {"not reached": "no time was left"}
                continue
            mask = Mask(network.units(), dict.fromkeys(units, INT8))
            write_mask(exported, mask, table, self._folder / "model.onnx")
            engine, _ = self._built()
            with engine:
                size = engine.size_bytes / 1e6
            yield name, {"size_mb": size, "paper_mb": paper.size_mb, "ratio": size / paper.size_mb}

    def _built(self) -> tuple[Engine, float]:
        start = time.monotonic()
        engine = self._builder.build(self._folder / "model.onnx", LENGTHS)
        return engine, time.monotonic() - start


def _masks(network: SpeakerNetwork) -> dict[str, Mask]:
    """The ten named masks."""
    units = network.units()
    quantized = {
        "none": (),
        **{unit: (unit,) for unit in units},
        "paper": PUBLISHED.proposed_units,
        "all": tuple(units),
    }
    return {name: Mask(units, dict.fromkeys(chosen, INT8)) for name, chosen in quantized.items()}


def _features(count: int, seed: int) -> list[Features]:
    """Noise as smooth over time as log-mel features, with a spectrum for each recording, ``[80, T]``."""
    generator = np.random.default_rng(seed)
    recordings = []
    for index in range(count):
        noise = generator.standard_normal((80, 204 + 97 * index))
        smooth = np.lib.stride_tricks.sliding_window_view(noise, 5, axis=1).mean(axis=2) * 3
        recordings.append((smooth + generator.standard_normal((80, 1))).astype(np.float32))
    return recordings
