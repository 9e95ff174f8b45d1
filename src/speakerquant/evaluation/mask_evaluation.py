"""From a mask to its figures: simulate, export, build, check, embed, score."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerquant.audio.features import FeatureArray
from speakerquant.corpus.trials import Trials
from speakerquant.engine.base import Engine, EngineBuilder
from speakerquant.errors import UserError
from speakerquant.evaluation.embeddings import Embeddings, embed_with_network
from speakerquant.evaluation.fidelity import fidelity
from speakerquant.evaluation.metrics import eer, min_dcf
from speakerquant.evaluation.scoring import cosine_scores
from speakerquant.model.ecapa_tdnn import EcapaTdnn
from speakerquant.progress import track
from speakerquant.quantization.export import export_onnx
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.simulate import simulate


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
    """What an engine measured: ``eer`` in percent, ``size_bytes`` serialized, ``scores`` ``[num_trials]``."""

    eer: float
    min_dcf: float
    size_bytes: int
    fidelity: float
    scores: npt.NDArray[np.float64]


class MaskEvaluator:
    """Evaluates masks of one network on one trial list with one backend.

    Args:
        network: FP32, in evaluation mode.
        table: Ranges of its layers.
        builder: The backend.
        weight_bits: Bits of the INT8 layers' weights, for engine and simulation alike.
        features: One ``[n_mels, T]`` per recording of ``trials``.
        trials: Pairs to score.
        fidelity_features: Recordings on which engine and simulation are compared.
        min_fidelity: Smallest cosine between their embeddings that counts as the same network.

    Raises:
        UserError: there are no recordings to compare on.
    """

    def __init__(
        self,
        network: EcapaTdnn,
        table: CalibrationTable,
        builder: EngineBuilder,
        *,
        weight_bits: int,
        features: Sequence[FeatureArray],
        trials: Trials,
        fidelity_features: Sequence[FeatureArray],
        min_fidelity: float,
    ) -> None:
        if not fidelity_features:
            raise UserError("engine.fidelity_recordings: the engine must be checked on at least 1 recording")
        self._network = network
        self._table = table
        self._builder = builder
        self._weight_bits = weight_bits
        self._features = features
        self._trials = trials
        self._fidelity_features = fidelity_features
        self._min_fidelity = min_fidelity

    def evaluate(self, mask: Mask, folder: Path, times: StageTimes) -> MaskFigures:
        """Build the mask's engine (``model.onnx`` and the engine are left in ``folder``) and measure it.

        Raises:
            UserError: the engine does not compute what the mask says.
        """
        onnx_path = folder / "model.onnx"
        with times.stage("export"):
            simulated = simulate(self._network, mask, self._table, self._weight_bits)
            export_onnx(simulated, onnx_path, self._network.config.n_mels)
        with times.stage("build"):
            engine = self._builder.build(onnx_path)
            engine.save(folder / f"engine.{self._builder.name}")
        with times.stage("fidelity"):
            reference = embed_with_network(simulated, self._fidelity_features)
            agreement = fidelity(_embed(engine, self._fidelity_features, "fidelity"), reference)
        if not agreement >= self._min_fidelity:
            raise UserError(
                f"engine.min_fidelity={self._min_fidelity}: the {self._builder.name} engine of {mask.key} "
                f"agrees with its simulation only to {agreement:.5f} on {self._builder.device}; "
                "its EER would not be a result"
            )
        with times.stage("embedding"):
            embeddings = _embed(engine, self._features, "embeddings")
        with times.stage("scoring"):
            scores = cosine_scores(embeddings, self._trials.left, self._trials.right)
            return MaskFigures(
                eer(scores, self._trials.labels),
                min_dcf(scores, self._trials.labels),
                engine.size_bytes,
                agreement,
                scores,
            )


def _embed(engine: Engine, features: Sequence[FeatureArray], description: str) -> Embeddings:
    return np.stack(list(track(engine.embed_many(features), description, total=len(features))))
