"""What all masks of a network share: computed once, kept in the cache."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import onnx
import torch
from torch import Tensor

from speakerquant import schema_versions
from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.audio.features import CachedFeatures
from speakerquant.cache import Cache
from speakerquant.files import digest
from speakerquant.graph.export import OPSET, export_network
from speakerquant.graph.masking import with_opset
from speakerquant.measuring.settings import EvaluationSettings
from speakerquant.progress import track
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.hessians import Hessians, gather_hessians, load_hessians, save_hessians
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding
from speakerquant.quantization.rounding_method import RoundingMethod

log = logging.getLogger(__name__)

ENOUGH_RECORDINGS = 200
"""Recordings to round weights for."""

_PIECE_SECONDS = 3.0
_PLACES = 40_000  # of each layer's input that are looked at, in all recordings together


def measured_ranges(
    model: SpeakerModel, recordings: CachedFeatures, method: str, percentile: float, cache: Cache
) -> CalibrationTable:
    """Ranges of every layer, measured once per checkpoint, calibration recordings and method.

    Args:
        model: The network.
        recordings: To calibrate on.
        method: How ranges are chosen (:func:`speakerquant.quantization.calibration.calibrate`).
        percentile: Read by the method of that name.
        cache: Keeps them.
    """

    def make(path: Path) -> None:
        with _forwarded(recordings, "calibration") as features:
            calibrate(model.network, features, method, percentile).save(path)

    key = digest(schema_versions.RANGES, model.digest, recordings.digest, method, percentile)
    return cache.read("ranges", key, make, CalibrationTable.load, ".safetensors")


def rounding_of(
    model: SpeakerModel, speech: Callable[[], CachedFeatures], settings: EvaluationSettings, cache: Cache
) -> Rounding:
    """How weights of fewer than eight bits become integers.

    Hessians are gathered once per checkpoint and recordings, and only when a mask needs them.

    Args:
        model: The network.
        speech: Gives the recordings to gather them on.
        settings: What becomes of a weight, and how many pieces of the recordings count.
        cache: Keeps Hessians and integers.
    """
    if settings.rounding is RoundingMethod.nearest:
        return Rounding(cache=cache, identity=lambda: [model.digest])
    number = settings.rounding_recordings

    def key() -> str:
        return digest(schema_versions.HESSIANS, model.digest, speech().digest, number)

    def make(path: Path) -> None:
        recordings = speech()
        if (count := len(recordings.features)) < ENOUGH_RECORDINGS:
            log.warning(
                "rounding weights for %d recordings: with %d and more, weights of few bits lose less, those "
                "behind a pooling most of all; name a folder of further speech, rounding.root",
                *(count, ENOUGH_RECORDINGS),
            )
        number_of_each = -(-number // count)
        longest, fewest = round(_PIECE_SECONDS * recordings.frames_per_second), model.network.min_frames
        with _forwarded(recordings, "Hessians") as features:
            pieces = (pieces_of(each, number_of_each, max(longest, fewest)) for each in features)
            save_hessians(gather_hessians(model.network, pieces, -(-_PLACES // count)), path)

    def gather() -> Hessians:
        return cache.read("hessians", key(), make, load_hessians, ".safetensors")

    return Rounding(settings.rounding, gather, cache, lambda: [model.digest, key()])


def pieces_of(recording: Tensor, number: int, length: int) -> Tensor:
    """At most so many pieces ``[B, n_mels, length]`` of a recording, beside each other; a short one whole."""
    frames = recording.shape[1]
    number, length = max(1, min(number, frames // length)), min(length, frames)
    spare = frames - number * length  # left out between the pieces and at both ends
    starts = [(i + 1) * spare // (number + 1) + i * length for i in range(number)]
    return torch.stack([recording[:, start : start + length] for start in starts])


def exported_network(model: SpeakerModel, opset: int, cache: Cache) -> onnx.ModelProto:
    """The graph that masks are put on, exported once per checkpoint and architecture.

    Args:
        model: The network.
        opset: The earliest version of ONNX's operators that will do.
        cache: Keeps the graph, and what becomes of it in other versions.

    Raises:
        UserError: the graph does not take other recordings than it was exported with.
    """
    key = digest(schema_versions.GRAPH, model.digest, asdict(model.network.config))

    def export(path: Path) -> None:
        # Only a new graph needs it.
        from speakerquant.engine.onnxruntime.exported_network import check_exported

        network = model.network
        onnx.save(export_network(network, network.n_mels, network.min_frames), path)
        check_exported(path, network)

    def exported() -> onnx.ModelProto:
        return cache.read("graphs", key, export, _read_graph, ".onnx")

    def convert(path: Path) -> None:
        onnx.save(with_opset(exported(), opset), path)

    if opset <= OPSET:
        return exported()
    return cache.read("graphs", digest(key, opset), convert, _read_graph, ".onnx")


def _read_graph(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    if not model.opset_import:  # which the file has behind the graph
        raise ValueError("it is cut off")
    return model


@contextmanager
def _forwarded(recordings: CachedFeatures, description: str) -> Iterator[Iterator[Tensor]]:
    """Features ``[n_mels, T]`` for a network to run on, behind a progress bar."""
    features = recordings.features
    with recordings.in_memory():
        yield map(torch.from_numpy, track(features, description, total=len(features)))
