"""Evaluates masks of one network: what they share is made once, and each is measured and compared."""

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.architectures.layers import LayerGeometry, geometries, unreached_in_words
from speakerquant.architectures.units import Units
from speakerquant.audio.features import CachedFeatures, FeatureArray, extract_features
from speakerquant.cache import Cache
from speakerquant.corpus.conditions import trial_groups
from speakerquant.corpus.evaluation_data import EvaluationData, check_length
from speakerquant.engine.backends import ENGINES, REFERENCE, engine_builder
from speakerquant.engine.base import EngineBuilder, Lengths
from speakerquant.engine.provenance import CHANNEL, FRONT_END, INTERFACE, MIN_FRAMES, remove_engines
from speakerquant.errors import UserError
from speakerquant.files import atomic_path, digest
from speakerquant.measuring.assembly import assemble_result
from speakerquant.measuring.baseline import Baseline, measured_baseline
from speakerquant.measuring.build import ONNX_FILE, MaskBuilder, is_of_a_mask
from speakerquant.measuring.check import FidelityCheck, excerpts_of
from speakerquant.measuring.embedding import check_frames
from speakerquant.measuring.groups import JudgedGroup, compare_groups, judged_groups
from speakerquant.measuring.latency import measure_latency, request_of
from speakerquant.measuring.listener import EvaluationListener, MeasuredOn
from speakerquant.measuring.pipeline import EvaluationSet, Measurement, MeasurementPipeline
from speakerquant.measuring.protocol import Protocol
from speakerquant.measuring.result import (
    DRAWS_FILE,
    LABELS_FILE,
    RANGES_FILE,
    RESULT_FILE,
    SCORES_FILE,
    SWAP_PREFIX,
    Result,
    is_of_groups,
    numbers_of_groups,
)
from speakerquant.measuring.settings import EvaluationSettings
from speakerquant.measuring.shared import measured_ranges, rounding_of
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.measuring.swapping import Decisions, keeping_voiceprints, swapping
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.prepared import PreparedModel
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding
from speakerquant.recovery.recovery import Recovery
from speakerquant.statistics.comparison import compare, write_draws
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.group_metrics import worst_group
from speakerquant.statistics.scores import Embeddings
from speakerquant.statistics.swap_metrics import KEPT_VOICEPRINTS, FormerSystem
from speakerquant.statistics.uncertainty import RELIABLE_SPEAKERS, SpeakerBootstrap

log = logging.getLogger(__name__)

ENOUGH_SECONDS = 30.0
"""Speech to calibrate on.

Measured on ECAPA-TDNN, C = 512, all in INT8, as the median distance (1 - cosine) from FP32: 0.00207 with two
recordings of 0.25 s, 0.00054 with fifty of those; 0.00070 with two of 3 s, 0.00016 with ten, 0.00015 with 50.
"""

_WHAT_A_LIST_CAN_SHOW = "speakerquant-data check says what a list can show"


@dataclass(frozen=True)
class EvaluationFeatures:
    """Features of all recordings of an evaluation.

    Attributes:
        tested: Of the trial list's recordings.
        calibration: Of the calibration recordings.
        cohort: Of the cohort that scores are normalised by; none without one.
    """

    tested: CachedFeatures
    calibration: CachedFeatures
    cohort: CachedFeatures | None


@dataclass(frozen=True, eq=False)
class MaskEvaluator:
    """Evaluates masks of a network with an engine on a trial list.

    What masks share is made when it is first needed, and kept here and in the cache: features, ranges, the
    exported graph, the baseline. Where the engines do not run on this machine, embeddings are those of the
    reference engine on their networks.

    Attributes:
        model: The network with its front end.
        data: The trial list and its recordings, and recordings of other speakers to calibrate on.
        builder: The engine's backend.
        cache: Keeps what is computed once.
        protocol: How the list is scored.
        settings: How masks are prepared and checked.
        trial_list: Name of the list, which results bear.
        development: Gives a list of other speakers that the baseline's thresholds are from; none takes them
            from the trial list itself.
    """

    model: SpeakerModel
    data: EvaluationData
    builder: EngineBuilder
    cache: Cache = field(default_factory=Cache)
    protocol: Protocol = field(default_factory=Protocol)
    settings: EvaluationSettings = field(default_factory=EvaluationSettings)
    trial_list: str = "test"
    development: Callable[[], EvaluationData] | None = None

    def evaluate(
        self,
        mask: Mask,
        folder: Path | str,
        listener: EvaluationListener | None = None,
        times: StageTimes | None = None,
    ) -> Result:
        """Measure a mask and compare it with the baseline.

        Args:
            mask: The mask.
            folder: Where it leaves ranges, ONNX graph, engine, scores, labels and ``result.json``, in place
                of those that another mask has left there.
            listener: Hears of it.
            times: Seconds of the stages before, which become part of the result.

        Raises:
            UserError: before any work, the engine does not run a precision of the mask, or the list is of
                one speaker, or a network lies in the folder that no evaluation has left there; or a recording
                is of no use, or the engine cannot be built or does not compute what the mask says.
        """
        listener, times = listener or EvaluationListener(), times or StageTimes()
        self.check_mask(mask)
        folder = Path(folder)
        _check_folder(folder)
        self._say_what_the_mask_does_not(mask)
        bootstrap = self.bootstrap
        with times.stage("features"):
            digests = self.recorded_digests([mask])
            _ = self.calibration_seconds
        with times.stage("calibration"):
            ranges = self.ranges
        _remove_former_results(folder)
        ranges.save(folder / RANGES_FILE)
        listener.inputs_known(self._measured_on(digests))
        pipeline = self.pipeline
        measured = pipeline.measure(mask, folder)
        self._save_scores(measured, folder)
        with times.stage("baseline"):
            baseline = self._measured_baseline(measured) if mask.is_baseline else self.baseline
            _ = self.tuning.baseline
        # The products are small: threads of BLAS would wait for each other longer than they compute.
        with threadpool_limits(1):
            with times.stage("intervals"):
                scores, metrics = measured.scores, self.protocol.metrics
                comparison = compare(scores, baseline.scores, bootstrap, metrics, self.cache)
                if comparison.metrics[EER.name].difference.is_expected:
                    log.warning(
                        "draws of the %s list's speakers do not move ΔEER one way, although scores differ: "
                        "that end of its interval is the one to be expected of such a list; %s",
                        *(self.trial_list, _WHAT_A_LIST_CAN_SHOW),
                    )
                with atomic_path(folder / DRAWS_FILE) as part:
                    write_draws(comparison.replicates, part)
            with times.stage("swap"):
                embeddings, data = measured.embedded.embeddings, pipeline.data
                kept = keeping_voiceprints(embeddings, baseline, self.former, data, self.cache)
                swap = {**swapping(scores, self.former), **kept}
            with times.stage("groups"):
                groups = compare_groups(scores, self.former, self.groups, self.cache)
        calibration = self.features.calibration
        result = assemble_result(
            *(measured, baseline, comparison, self.decisions, swap, groups),
            *(pipeline, self.trial_list, calibration, times),
        )
        result.save(folder)
        listener.finished(result)
        return result

    def measure(self, masks: Sequence[Mask], folders: Sequence[Path | str]) -> Iterator[Measurement]:
        """Measure masks in turn, each as soon as it is asked for, without comparing them with the baseline.

        Args:
            masks: The masks.
            folders: Where each leaves its ONNX graph and its engine.

        Raises:
            UserError: as :meth:`evaluate`.
        """
        for mask in masks:
            self.check_mask(mask)
        return (self.pipeline.measure(*each) for each in zip(masks, map(Path, folders), strict=True))

    def numbers_of(self, embeddings: Embeddings, names: Collection[str]) -> dict[str, float]:
        """Numbers of a result that embeddings alone tell, of a mask that was never built.

        Scores must not be normalised, as a cohort is not embedded.

        Args:
            embeddings: Of the trial list's recordings, ``[num_recordings, dim]``.
            names: Of the numbers, such as :func:`speakerquant.measuring.result.is_of_embeddings` knows.
        """
        data = self.pipeline.data
        scores = data.protocol.scores(embeddings, data.trials, None)
        of_kept = [name for name in names if name.startswith(SWAP_PREFIX) and KEPT_VOICEPRINTS in name]
        of_swap = [name for name in names if name.startswith(SWAP_PREFIX) and name not in of_kept]
        of_groups = [name for name in names if is_of_groups(name)]
        former, found = self.former, dict[str, float]()
        with threadpool_limits(1):  # as in evaluate
            if len(names) > len(of_kept) + len(of_swap) + len(of_groups):
                metrics = self.protocol.metrics
                compared = compare(scores, former.scores, self.bootstrap, metrics, self.cache, is_kept=False)
                found |= compared.numbers
            if of_swap:
                found |= {f"{SWAP_PREFIX}{name}": value for name, value in swapping(scores, former).items()}
            if of_kept:
                kept = keeping_voiceprints(embeddings, self.baseline, former, data, self.cache, is_kept=False)
                found |= {f"{SWAP_PREFIX}{name}": value for name, value in kept.items()}
            if of_groups and self.groups:
                groups = compare_groups(scores, former, self.groups, self.cache, is_kept=False)
                found |= {**worst_group(groups)[1], **numbers_of_groups(groups)}
        return {name: found[name] for name in names if name in found}

    def check_mask(self, mask: Mask) -> None:
        """Refuse a mask that the engine does not run.

        Raises:
            UserError: it has a precision that the engine does not run, with those that it does.
        """
        self.builder.check_mask(mask, self.layers)

    @cached_property
    def units(self) -> Units:
        """What masks give precisions to."""
        return self.model.network.units(self.settings.units)

    @cached_property
    def layers(self) -> Mapping[str, LayerGeometry]:
        """The geometry of every layer that masks reach, by name."""
        return geometries(self.model.network)

    @cached_property
    def weight_bits(self) -> int:
        """Most bits of integer weights."""
        return self.settings.weight_bits or self.builder.weight_bits()

    @cached_property
    def bootstrap(self) -> SpeakerBootstrap:
        """Draws of the speakers of the trial list.

        Raises:
            UserError: the list is of one or two speakers, or has a single trial of a kind.
        """
        trials, speakers = self.data.trials, self.data.speakers
        called = "data.trials" if self.trial_list == "test" else f"data.{self.trial_list}_trials"
        check_length(trials, speakers, called)
        bootstrap = SpeakerBootstrap(speakers[trials.left], speakers[trials.right], trials.labels)
        if bootstrap.num_speakers < RELIABLE_SPEAKERS:
            log.warning(
                "the %s list is of %d speakers, and intervals of differences can be relied on from about %d "
                "on; %s",
                *(self.trial_list, bootstrap.num_speakers, RELIABLE_SPEAKERS, _WHAT_A_LIST_CAN_SHOW),
            )
        return bootstrap

    @cached_property
    def features(self) -> EvaluationFeatures:
        """Features of all recordings.

        Raises:
            UserError: a recording is unreadable, or too short or too long for the network.
        """
        cohort = self.protocol.cohort
        return EvaluationFeatures(
            cohort=self._features_of(cohort) if cohort is not None else None,
            tested=self._features_of(self.data.recordings),
            calibration=self._features_of(self.data.calibration),
        )

    @cached_property
    def calibration_seconds(self) -> float:
        """Seconds of speech that ranges are from; that they are few is said once."""
        if (seconds := self.features.calibration.seconds) < ENOUGH_SECONDS:
            log.warning(
                "calibrating on %.1f s of speech in %d recordings: below %.0f s ranges are those of these "
                "recordings, and an engine may lose what its mask need not; give more",
                *(seconds, len(self.data.calibration), ENOUGH_SECONDS),
            )
        return seconds

    def _features_of(self, recordings: Sequence[Path]) -> CachedFeatures:
        extracted = extract_features(recordings, self.model.front_end, self.cache, self.settings.channel)
        check_frames(self.model.network, recordings, extracted.features.num_frames)
        return extracted

    @property
    def digests(self) -> Mapping[str, str]:
        """Of checkpoint, trials, their recordings, and cohort (empty without one), by these names."""
        cohort = self.features.cohort
        return {
            "checkpoint": self.model.digest,
            "trials": self.data.trials_digest,
            "recordings": self.features.tested.digest,
            "cohort": cohort.digest if cohort else "",
        }

    def recorded_digests(self, masks: Sequence[Mask]) -> Mapping[str, str]:
        """What is recorded of all that the masks are measured on, as in :class:`MeasuredOn`."""
        cohort, tuning = self.features.cohort, self.tuning
        development = (tuning.data.trials_digest, tuning.features.tested.speech)
        return {
            **self.digests,
            "recordings": self.features.tested.speech,
            "cohort": cohort.speech if cohort else "",
            "calibration": self.features.calibration.speech,
            "rounding": self.rounding_speech.speech if self.settings.needs_rounding_speech(masks) else "",
            "speakers": self.data.speakers_digest,
            "conditions": self.data.conditions_digest,
            "development": digest(*development) if tuning is not self else "",
        }

    @cached_property
    def ranges(self) -> CalibrationTable:
        """Ranges of every layer; they fit every mask."""
        method, percentile = self.settings.method, self.settings.percentile
        return measured_ranges(self.model, self.features.calibration, method, percentile, self.cache)

    @cached_property
    def rounding(self) -> Rounding:
        """How weights of fewer than eight bits become integers."""
        return rounding_of(self.model, lambda: self.rounding_speech, self.settings, self.cache)

    @cached_property
    def prepared(self) -> PreparedModel:
        """The network with all that masks make integers by."""
        words = self.settings.rounding_in_words
        return PreparedModel(self.model, self.ranges, self.rounding, words, self.weight_bits)

    @cached_property
    def rounding_speech(self) -> CachedFeatures:
        """Features of the recordings that weights are rounded for."""
        return self._features_of(self.data.rounding())

    @cached_property
    def baseline(self) -> Baseline:
        """What masks are compared with: from the cache, or measured now."""
        return self._measured_baseline()

    def _measured_baseline(self, known: Measurement | None = None) -> Baseline:
        identity = [self.digests, self.protocol.identity]
        return measured_baseline(self.pipeline, self.units, identity, known)

    @cached_property
    def tuning(self) -> "MaskEvaluator":
        """What evaluates masks on the list that thresholds are from."""
        if self.development is None:
            return self
        data = self.development()
        if shared := {*data.recordings}.intersection(self.data.recordings):
            log.warning(
                "%d of %d recordings of the development list are in the trial list, too, such as %s: FP32's "
                "thresholds fit it better than others then; give recordings of other speakers",
                *(len(shared), len(data.recordings), min(shared)),
            )
        return replace(self, data=data, trial_list="development", development=None)

    @cached_property
    def decisions(self) -> Decisions:
        """How the baseline decides, by the development list where there is one, as products do."""
        tuning = self.tuning
        if tuning is self and self.trial_list == "test":
            log.warning(
                "no development list: FP32's thresholds and calibration are from the test list itself, where "
                "they fit best; give data.development_trials"
            )
        scores, labels = tuning.baseline.scores, tuning.data.trials.labels
        return Decisions.of(tuning.trial_list, scores, labels, self.protocol.false_accepts)

    @cached_property
    def former(self) -> FormerSystem:
        """The baseline as what masks replace."""
        prior = self.protocol.p_targets[0]
        return self.decisions.on(self.trial_list, self.baseline.scores, self.bootstrap, prior)

    @cached_property
    def groups(self) -> Sequence[JudgedGroup]:
        """Groups of trials to look at one by one: those of the data's conditions, and by length."""
        tested = self.features.tested.features
        # Rounded, as front ends count a frame more or less of the same recording.
        seconds = (np.array(tested.num_frames) / self.model.front_end.frames_per_second).round(1)
        groups = trial_groups(self.data.trials, self.data.conditions, seconds)
        return judged_groups(groups, self.bootstrap)

    @cached_property
    def pipeline(self) -> MeasurementPipeline:
        """What measures a mask."""
        features, settings = self.features, self.settings
        frames_per_second = self.model.front_end.frames_per_second
        checked = features.calibration.features[: settings.fidelity_recordings]
        excerpts = excerpts_of(checked, frames_per_second, self.model.network.min_frames)
        request = request_of(checked[0], frames_per_second)
        network = self.model.network
        building = MaskBuilder(
            self.layers,
            self.builder,
            self.builder if self.builder.executes else engine_builder(REFERENCE),
            _lengths(features, [*excerpts, request], network.min_frames),
            {
                "checkpoint": self.model.digest,
                "calibration": self._calibration_in_words,
                "frames_per_second": f"{frames_per_second:g}",
                FRONT_END: json.dumps(asdict(self.model.front_end)),
                MIN_FRAMES: str(network.min_frames),
                INTERFACE: json.dumps(asdict(network.interface)),
                **({CHANNEL: str(settings.channel)} if settings.channel else {}),
            },
            self.cache,
        )
        return MeasurementPipeline(
            self.prepared,
            Recovery(settings.recovery, lambda: self.rounding_speech, self.cache)
            if settings.recovery.steps
            else None,
            building,
            FidelityCheck(excerpts, settings.min_fidelity),
            partial(measure_latency, request=request, repeats=settings.latency_requests)
            if settings.latency_requests
            else None,
            EvaluationSet(features.tested, self.data.trials, self.protocol, features.cohort),
            self.cache,
        )

    def _say_what_the_mask_does_not(self, mask: Mask) -> None:
        """Name the layers that no mask reaches, and those that the engine stores in more bits."""
        if unreached := unreached_in_words(self.model.network):
            log.warning("in FP32 whatever the mask, %s", unreached)
        if widened := self.builder.widened(mask, self.layers):
            layers = ", ".join(f"{name} ({bits} bits)" for name, bits in widened.items())
            log.warning("%s stores weights of these layers in more bits: %s", self.builder.name, layers)

    @property
    def _calibration_in_words(self) -> str:
        """Method, recordings and their digest, such as ``percentile 99.99 on 50 recordings (0123...)``."""
        settings, recordings = self.settings, self.features.calibration
        method = f"{settings.method}{f' {settings.percentile:g}' if settings.method == 'percentile' else ''}"
        return f"{method} on {len(recordings.features)} recordings ({recordings.digest})"

    def _measured_on(self, digests: Mapping[str, str]) -> MeasuredOn:
        unreached = unreached_in_words(self.model.network)
        return MeasuredOn(self.data, self.trial_list, digests, self.builder.environment, unreached)

    def _save_scores(self, measured: Measurement, folder: Path) -> None:
        for name, array in {
            SCORES_FILE: measured.scores.astype(np.float32),
            LABELS_FILE: self.data.trials.labels,
        }.items():
            with atomic_path(folder / name) as part:
                np.save(part, array)


def _check_folder(folder: Path) -> None:
    """Refuse a folder in which a network would be replaced that is of somebody else."""
    if (path := folder / ONNX_FILE).is_file() and not is_of_a_mask(path):
        raise UserError(
            f"{path}: would be replaced, and is no file of a run; choose another folder (hydra.run.dir)"
        )


def _remove_former_results(folder: Path) -> None:
    """Remove what an evaluation leaves, the result first, so that nothing is taken for a part of another."""
    for name in (RESULT_FILE, SCORES_FILE, LABELS_FILE, DRAWS_FILE, RANGES_FILE, ONNX_FILE):
        (folder / name).unlink(missing_ok=True)
    remove_engines(folder, ENGINES)


def _lengths(features: EvaluationFeatures, others: Sequence[FeatureArray], fewest: int) -> Lengths:
    """Lengths of what engines are asked for: the list, the cohort, and other recordings ``[n_mels, T]``."""
    num_frames = features.tested.features.num_frames
    cohort = features.cohort.features.num_frames if features.cohort else []
    longest = max(*num_frames, *cohort, *(x.shape[1] for x in others))
    return Lengths(int(np.median(num_frames)), longest, fewest)
