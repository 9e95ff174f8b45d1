"""What all masks of a network share: computed once, kept in the cache."""

from collections.abc import Iterator
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
from speakerquant.graph.export import export_network
from speakerquant.progress import track
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.hessians import Hessians, gather_hessians, load_hessians, save_hessians
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding, RoundingMethod


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
    return CalibrationTable.load(cache.get("ranges", key, make, suffix=".safetensors"))


def rounding_of(
    model: SpeakerModel, recordings: CachedFeatures, method: RoundingMethod, cache: Cache
) -> Rounding:
    """How weights of fewer than eight bits become integers.

    Hessians are gathered once per checkpoint and calibration recordings, and only when a mask needs them.

    Args:
        model: The network.
        recordings: To gather Hessians on.
        method: What becomes of a weight.
        cache: Keeps Hessians and integers.
    """
    if method is RoundingMethod.nearest:
        return Rounding(cache=cache, identity=[model.digest])
    key = digest(schema_versions.HESSIANS, model.digest, recordings.digest)

    def make(path: Path) -> None:
        with _forwarded(recordings, "Hessians") as features:
            save_hessians(gather_hessians(model.network, features), path)

    def gather() -> Hessians:
        return load_hessians(cache.get("hessians", key, make, suffix=".safetensors"))

    return Rounding(gather, cache, [model.digest, key])


def exported_network(model: SpeakerModel, cache: Cache) -> onnx.ModelProto:
    """The graph that masks are put on, exported once per checkpoint and architecture."""
    key = digest(schema_versions.GRAPH, model.digest, asdict(model.network.config))

    def make(path: Path) -> None:
        onnx.save(export_network(model.network, model.network.n_mels), path)

    return onnx.load(cache.get("graphs", key, make, suffix=".onnx"))


@contextmanager
def _forwarded(recordings: CachedFeatures, description: str) -> Iterator[Iterator[Tensor]]:
    """Features ``[n_mels, T]`` for a network to run on, behind a progress bar."""
    features = recordings.features
    with recordings.in_memory():
        yield map(torch.from_numpy, track(features, description, total=len(features)))
