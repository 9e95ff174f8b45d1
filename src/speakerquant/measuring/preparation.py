"""Prepares an evaluation from a network, its ranges, an engine and recordings."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx

from speakerquant import schema_versions
from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.architectures.layers import geometries
from speakerquant.audio.features import CachedFeatures, FeatureArray
from speakerquant.cache import Cache
from speakerquant.corpus.trials import Trials
from speakerquant.engine.backends import REFERENCE, engine_builder
from speakerquant.engine.base import EngineBuilder, Lengths
from speakerquant.engine.provenance import FRONT_END, MIN_FRAMES
from speakerquant.files import digest
from speakerquant.graph.export import export_network
from speakerquant.measuring.build import MaskBuilder
from speakerquant.measuring.check import FidelityCheck, excerpts_of
from speakerquant.measuring.evaluate import Evaluation, EvaluationSet
from speakerquant.measuring.latency import LatencyMeasurement, request_of
from speakerquant.measuring.protocol import Protocol
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding


def prepare_evaluation(
    model: SpeakerModel,
    table: CalibrationTable,
    builder: EngineBuilder,
    cache: Cache,
    *,
    recordings: CachedFeatures,
    trials: Trials,
    protocol: Protocol,
    calibration: Sequence[FeatureArray],
    max_weight_bits: int,
    fidelity_recordings: int = 8,
    min_fidelity: float = 0.999,
    latency_requests: int = 0,
    rounding: Rounding | None = None,
) -> Evaluation:
    """What measures masks of one network with one backend on one trial list.

    Where the backend's engines do not run, embeddings are those of the reference engine on their networks.

    Args:
        model: The network with its front end.
        table: Ranges of its layers.
        builder: The backend.
        cache: Keeps the exported network, embeddings and baselines.
        recordings: Features of the trial list's recordings.
        trials: Pairs to score.
        protocol: How they are scored.
        calibration: Features ``[n_mels, T]`` of the calibration recordings, on which engines are checked and
            timed.
        max_weight_bits: Most bits of integer weights (:meth:`EngineBuilder.weight_bits`).
        fidelity_recordings: How many of the calibration recordings engines are checked on.
        min_fidelity: Smallest cosine at which an engine counts as the network that its mask describes.
        latency_requests: How many requests are timed; 0 leaves them untimed.
        rounding: How weights of fewer than eight bits become integers; none is :class:`Rounding`'s default.

    Raises:
        UserError: there is nothing to check engines on.
    """
    frames_per_second = model.front_end.frames_per_second
    checked = calibration[:fidelity_recordings]
    rounding = rounding or Rounding()
    excerpts = excerpts_of(checked, frames_per_second)
    check = FidelityCheck(model.network, table, rounding, max_weight_bits, excerpts, min_fidelity)
    request = request_of(checked[0], frames_per_second)
    num_frames = recordings.features.num_frames
    cohort = protocol.cohort.features.num_frames if protocol.cohort else []
    longest = max(*num_frames, *cohort, *(x.shape[1] for x in (*check.excerpts, request)))
    building = MaskBuilder(
        onnx.load(_exported(model, cache)),
        table,
        rounding,
        geometries(model.network),
        builder,
        builder if builder.executes else engine_builder(REFERENCE),
        max_weight_bits,
        Lengths(int(np.median(num_frames)), longest),
        {
            "checkpoint": model.digest,
            "frames_per_second": f"{frames_per_second:g}",
            FRONT_END: json.dumps(asdict(model.front_end)),
            MIN_FRAMES: str(model.network.min_frames),
        },
    )
    return Evaluation(
        building,
        check,
        LatencyMeasurement(request, latency_requests) if latency_requests else None,
        EvaluationSet(recordings, trials, protocol),
        cache,
    )


def _exported(model: SpeakerModel, cache: Cache) -> Path:
    """The network in ONNX, exported once per checkpoint and architecture."""
    key = digest(schema_versions.GRAPH, model.digest, asdict(model.network.config))

    def make(path: Path) -> None:
        onnx.save(export_network(model.network, model.network.n_mels), path)

    return cache.get("graphs", key, make, suffix=".onnx")
