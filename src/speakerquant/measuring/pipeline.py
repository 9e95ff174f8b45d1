"""Measures a mask: builds its engine, checks it, embeds the recordings and scores the trials."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerquant.audio.features import CachedFeatures
from speakerquant.cache import Cache
from speakerquant.corpus.trials import Trials
from speakerquant.engine.base import Engine
from speakerquant.files import digest
from speakerquant.measuring.build import BuiltMask, MaskBuilder
from speakerquant.measuring.check import FidelityCheck
from speakerquant.measuring.embedding import (
    EMBEDDINGS,
    TimedEmbeddings,
    embed_with_engine,
    read_embeddings,
)
from speakerquant.measuring.engine_metrics import Latency, MeasuredEngine
from speakerquant.measuring.protocol import Protocol
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.prepared import PreparedModel
from speakerquant.recovery.recovery import Recovery
from speakerquant.statistics.scores import Embeddings


@dataclass(frozen=True)
class EvaluationSet:
    """What every mask is measured on.

    Attributes:
        features: Features of the trial list's recordings.
        trials: Pairs to score.
        protocol: How they are scored.
        cohort: Features of the protocol's cohort, should it have one.
    """

    features: CachedFeatures
    trials: Trials
    protocol: Protocol
    cohort: CachedFeatures | None = None


@dataclass(frozen=True)
class Measurement(MeasuredEngine):
    """What was measured of one mask, of its engine and of the engine's scores.

    Attributes:
        mask: The mask.
        embedded: Embeddings of the trial list's recordings.
        cohort: Embeddings of the cohort, should there be one.
        scores: ``[num_trials]``, in the order of the list.
        times: Seconds by stage.
    """

    mask: Mask
    embedded: TimedEmbeddings
    cohort: Embeddings | None
    scores: npt.NDArray[np.float64]
    times: StageTimes


@dataclass(frozen=True)
class MeasurementPipeline:
    """The parts that measure a mask, which know each other by their results only.

    Attributes:
        prepared: The network that masks are put on.
        recovery: Trains it for a mask before; none puts masks on it as it is.
        building: Builds the engine of a mask.
        fidelity: Checks that what embeds computes what the mask says.
        latency: Times single requests, if the engine runs here; none leaves them untimed.
        data: What is embedded and scored.
        cache: Keeps embeddings, those of a run that was killed too.
    """

    prepared: PreparedModel
    recovery: Recovery | None
    building: MaskBuilder
    fidelity: FidelityCheck
    latency: Callable[[Engine], Latency] | None
    data: EvaluationSet
    cache: Cache

    def measure(self, mask: Mask, folder: Path) -> Measurement:
        """Measure a mask, and leave its ONNX graph and engine in the folder.

        Raises:
            UserError: the backend does not run a precision of the mask; or the engine cannot be built, or
                does not compute what the mask says.
        """
        times = StageTimes()
        executed, prepared = self.building.executed, self.prepared
        if self.recovery:
            with times.stage("recovery"):
                prepared = self.recovery.recovered(prepared, mask)
        path = self.building.write(prepared, mask, folder, times)
        with ExitStack() as stack:
            with ThreadPoolExecutor(1) as beside:  # a build leaves processors idle
                simulation = beside.submit(self.fidelity.simulate, prepared, mask)
                built = stack.enter_context(self.building.build(path, times))
                with times.stage("fidelity"):
                    fidelity = self.fidelity.check(built.runner, simulation.result())
            latency = None
            if executed and self.latency is not None:
                with times.stage("latency"):
                    latency = self.latency(built.runner)
            embed = partial(self._embed, built)
            embedded = embed(self.data.features, "embeddings")
            times.seconds["embedding"] = embedded.seconds

            with times.stage("scoring"):
                others = self.data.cohort
                cohort = embed(others, "cohort").embeddings if others else None
                scores = self.data.protocol.scores(embedded.embeddings, self.data.trials, cohort)
        return Measurement(
            size_bytes=built.size_bytes,
            sha256=built.sha256,
            fidelity=fidelity if executed else None,
            latency=latency,
            real_time_factor=embedded.seconds / self.data.features.seconds if executed else None,
            mask=mask,
            embedded=embedded,
            cohort=cohort,
            scores=scores,
            times=times,
        )

    def _embed(self, built: BuiltMask, recordings: CachedFeatures, description: str) -> TimedEmbeddings:
        dim = self.prepared.model.network.embedding_dim
        with recordings.in_memory():
            return self.cache.read(
                EMBEDDINGS,
                digest(built.identity, recordings.digest),
                lambda part: embed_with_engine(built.runner, recordings.features, dim, part, description),
                lambda path: read_embeddings(path, len(recordings.features), dim),
                continues=True,
            )
