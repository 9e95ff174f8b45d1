"""From a mask to its figures: simulate, export, build, check, embed, score."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerquant.audio.features import CachedFeatures, FeatureArray
from speakerquant.cache import Cache, digest, file_digest
from speakerquant.corpus.trials import Trials
from speakerquant.engine.base import Engine, EngineBuilder, Lengths
from speakerquant.errors import UserError
from speakerquant.evaluation.embeddings import (
    TimedEmbeddings,
    embed_with_engine,
    embed_with_network,
    read_embeddings,
)
from speakerquant.evaluation.fidelity import fidelity
from speakerquant.evaluation.latency import Latency, measure_latency, request_of
from speakerquant.evaluation.metrics import eer
from speakerquant.evaluation.protocol import Protocol
from speakerquant.model.ecapa_tdnn import EcapaTdnn
from speakerquant.quantization.export import export_onnx
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.simulate import simulate

# Raise it when an engine of the same network comes to compute other embeddings.
_EMBEDDINGS_FORMAT = 1


@dataclass
class StageTimes:
    """Seconds by stage, in the order in which the stages ran."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class MaskFigures:
    """What an engine measured; see :class:`speakerquant.evaluation.result.Result`.

    ``min_dcfs`` are by the names of their metrics, ``scores`` are ``[num_trials]``.
    """

    eer: float
    min_dcfs: Mapping[str, float]
    size_bytes: int
    fidelity: float
    latency: Latency
    real_time_factor: float
    scores: npt.NDArray[np.float64]


class MaskEvaluator:
    """Evaluates masks of one network on one trial list.

    Args:
        network: FP32, in evaluation mode.
        table: Ranges of its layers.
        weight_bits: Bits of the INT8 layers' weights, for engine and simulation alike.
        cache: Keeps embeddings, those of a run that was killed too.
        features: One ``[n_mels, T]`` per recording of ``trials``.
        trials: Pairs to score.
        protocol: How they are scored.
        fidelity_features: Recordings on which engine and simulation are compared.
        min_fidelity: Smallest cosine between their embeddings that counts as the same network.
        frames_per_second: Of the features.
        properties: What the ONNX files shall say of the network, beside the mask.

    Raises:
        UserError: there are no recordings to compare on.
    """

    def __init__(
        self,
        network: EcapaTdnn,
        table: CalibrationTable,
        *,
        weight_bits: int,
        cache: Cache,
        features: CachedFeatures,
        trials: Trials,
        protocol: Protocol,
        fidelity_features: Sequence[FeatureArray],
        min_fidelity: float,
        frames_per_second: float,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        if not fidelity_features:
            raise UserError("engine.fidelity_recordings: the engine must be checked on at least 1 recording")
        self._network = network
        self._table = table
        self._weight_bits = weight_bits
        self._cache = cache
        self._features = features
        self._trials = trials
        self._protocol = protocol
        self._fidelity_features = fidelity_features
        self._min_fidelity = min_fidelity
        self._frames_per_second = frames_per_second
        self._properties = dict(properties or {})
        self._request = request_of(fidelity_features[0], frames_per_second)
        num_frames = features.features.num_frames
        others = [x.shape[1] for x in (*fidelity_features, self._request)]
        others += protocol.cohort.features.num_frames if protocol.cohort else []
        self._lengths = Lengths(int(np.median(num_frames)), max([*others, *num_frames]))
        self._speech_seconds = sum(num_frames) / frames_per_second

    def evaluate(self, mask: Mask, builder: EngineBuilder, folder: Path, times: StageTimes) -> MaskFigures:
        """Build the mask's engine (``model.onnx`` and the engine are left in ``folder``) and measure it.

        Raises:
            UserError: the engine cannot be built, or does not compute what the mask says.
        """
        onnx_path = folder / "model.onnx"
        with times.stage("export"):
            simulated = simulate(self._network, mask, self._table, self._weight_bits)
            properties = {
                **self._properties,
                "mask": mask.key,
                "weight_bits": str(self._weight_bits),
                "frames_per_second": f"{self._frames_per_second:g}",
            }
            export_onnx(simulated, onnx_path, self._network.config.n_mels, properties)
        with times.stage("build"):
            engine = builder.build(onnx_path, self._lengths)
        with engine:
            engine.save(folder / f"engine.{builder.name}")
            with times.stage("fidelity"):
                reference = embed_with_network(simulated, self._fidelity_features)
                agreement = fidelity(np.stack(list(engine.embed_many(self._fidelity_features))), reference)
            if not agreement >= self._min_fidelity:
                raise UserError(
                    f"engine.min_fidelity={self._min_fidelity}: the {builder.name} engine of {mask.key} "
                    f"({', '.join(builder.environment.values())}) agrees with its simulation only to "
                    f"{agreement:.5f}; its EER would not be a result"
                )
            with times.stage("latency"):
                latency = measure_latency(engine, self._request)
            embed = partial(self._embed, engine, self._identity(builder, onnx_path))
            embedded = embed(self._features, "embeddings")
            times.seconds["embedding"] = embedded.seconds
            with times.stage("scoring"):
                scores = self._protocol.scores(
                    embedded.embeddings, self._trials, lambda cohort: embed(cohort, "cohort").embeddings
                )
        with times.stage("scoring"):
            return MaskFigures(
                eer(scores, self._trials.labels),
                self._protocol.min_dcfs(scores, self._trials.labels),
                engine.size_bytes,
                agreement,
                latency,
                embedded.seconds / self._speech_seconds,
                scores,
            )

    def _identity(self, builder: EngineBuilder, onnx_path: Path) -> str:
        """Of all that determines what an engine computes."""
        backend = (builder.name, dict(builder.environment), dict(builder.settings))
        return digest(_EMBEDDINGS_FORMAT, file_digest(onnx_path), backend)

    def _embed(
        self, engine: Engine, identity: str, recordings: CachedFeatures, description: str
    ) -> TimedEmbeddings:
        dim = self._network.config.embedding_dim
        path = self._cache.continued(
            "embeddings",
            digest(identity, recordings.digest),
            lambda part: embed_with_engine(engine, recordings.features, dim, part, description),
        )
        return read_embeddings(path, dim)
