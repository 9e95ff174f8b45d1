"""Measures masks: builds their engines, checks them, embeds the recordings and scores the trials."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from speakerquant.audio.features import CachedFeatures
from speakerquant.cache import Cache
from speakerquant.corpus.trials import Trials
from speakerquant.files import digest
from speakerquant.measuring.build import BuiltMask, MaskBuilder
from speakerquant.measuring.check import FidelityCheck
from speakerquant.measuring.embedding import (
    EMBEDDINGS,
    TimedEmbeddings,
    embed_with_engine,
    read_embeddings,
)
from speakerquant.measuring.latency import Latency, LatencyMeasurement
from speakerquant.measuring.protocol import Protocol, Scored
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.quantization.mask import Mask
from speakerquant.statistics.scores import Embeddings


@dataclass(frozen=True)
class EvaluationSet:
    """What every mask is measured on.

    Attributes:
        features: Features of the trial list's recordings.
        trials: Pairs to score.
        protocol: How they are scored.
    """

    features: CachedFeatures
    trials: Trials
    protocol: Protocol

    @property
    def speech_seconds(self) -> float:
        """Length of all recordings together."""
        return sum(self.features.features.num_frames) / self.features.frames_per_second


@dataclass(frozen=True)
class Measurement:
    """What was measured of one mask.

    Attributes:
        mask: The mask.
        size_bytes: Size of the serialized engine.
        fidelity: Smallest cosine between the engine's and the simulation's embeddings; none if the engine was
            built but does not run on this machine.
        latency: Times of a single request; none if they were not measured.
        embedded: Embeddings of the trial list's recordings.
        scored: Scores and error metrics.
        real_time_factor: Seconds of embedding per second of speech; none if the engine does not run here.
        times: Seconds by stage.
    """

    mask: Mask
    size_bytes: int
    fidelity: float | None
    latency: Latency | None
    embedded: TimedEmbeddings
    scored: Scored
    real_time_factor: float | None
    times: StageTimes


@dataclass(frozen=True)
class Evaluation:
    """The parts of an evaluation, which know each other by their results only.

    Attributes:
        building: Builds the engine of a mask.
        fidelity: Checks that what embeds computes what the mask says.
        latency: Times single requests, if the engine runs here; none leaves them untimed.
        data: What is embedded and scored.
        cache: Keeps embeddings, those of a run that was killed too.
    """

    building: MaskBuilder
    fidelity: FidelityCheck
    latency: LatencyMeasurement | None
    data: EvaluationSet
    cache: Cache

    def evaluate(self, masks: Sequence[Mask], folders: Sequence[Path]) -> Iterator[Measurement]:
        """Measure the masks in turn; each leaves its ONNX graph and engine in the folder of its place.

        Raises:
            UserError: the backend does not run a precision of a mask, before any work; or an engine cannot
                be built, or does not compute what its mask says.
        """
        for mask in masks:
            self.building.builder.check_mask(mask)
        for mask, folder in zip(masks, folders, strict=True):
            yield self._measure(mask, folder)

    def _measure(self, mask: Mask, folder: Path) -> Measurement:
        times = StageTimes()
        executed = self.building.executed
        with self.building.build(mask, folder, times) as built:
            with times.stage("fidelity"):
                fidelity = self.fidelity.check(built.runner, mask)
            latency = None
            if executed and self.latency is not None:
                with times.stage("latency"):
                    latency = self.latency.measure(built.runner)
            embed = partial(self._embed, built)
            embedded = embed(self.data.features, "embeddings")
            times.seconds["embedding"] = embedded.seconds

            def embed_cohort(cohort: CachedFeatures) -> Embeddings:
                return embed(cohort, "cohort").embeddings

            with times.stage("scoring"):
                scored = self.data.protocol.score(embedded.embeddings, self.data.trials, embed_cohort)
        return Measurement(
            mask,
            built.size_bytes,
            fidelity if executed else None,
            latency,
            embedded,
            scored,
            embedded.seconds / self.data.speech_seconds if executed else None,
            times,
        )

    def _embed(self, built: BuiltMask, recordings: CachedFeatures, description: str) -> TimedEmbeddings:
        dim = self.fidelity.network.embedding_dim
        with recordings.in_memory():
            path = self.cache.continued(
                EMBEDDINGS,
                digest(built.identity, recordings.digest),
                lambda part: embed_with_engine(built.runner, recordings.features, dim, part, description),
            )
        return read_embeddings(path, dim)
