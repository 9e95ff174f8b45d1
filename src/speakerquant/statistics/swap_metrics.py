"""What users notice when one system takes another's place and its threshold stays.

Every number is a mean over target trials, over non-target trials, or a weighted sum of both, so that a draw
of the speakers takes sums and no sorting.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.error_rates import ScoredTrials, threshold_at
from speakerquant.statistics.metric import Compared, Direction, Metric
from speakerquant.statistics.score_calibration import (
    ScoreCalibration,
    SpeakerFolds,
    costs_in_bits,
    min_cllr,
)
from speakerquant.statistics.uncertainty import Array, BooleanArray, SpeakerBootstrap, difference

KEPT_VOICEPRINTS = "voiceprints_"
"""Before the names of what holds where voiceprints stay: the former system enrolled, the new one tests."""

FEWEST_ERRORS = 10
"""False accepts that a list must be able to show at a rate for a threshold to be taken from it."""

_KEPT_IN_WORDS = "voiceprints kept"
EER_POINT = "eer"
"""Name of the operating point at the EER."""

_AT = "_at_"
_POINT = re.compile(rf"{_AT}({EER_POINT}|far_\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold of the former system.

    Attributes:
        name: ``eer``, or ``far_<percent>``.
        threshold: Trials with this score and above are accepted.
    """

    name: str
    threshold: float


def operating_points(trials: ScoredTrials, false_accepts: Sequence[float]) -> list[OperatingPoint]:
    """The threshold at the EER, and the lowest at each of these false-accept rates in percent.

    Rates at which the list has fewer than :data:`FEWEST_ERRORS` false accepts are left out.
    """
    num_others = int(np.count_nonzero(~trials.targets))
    resolved = [percent for percent in false_accepts if is_resolved(percent, num_others)]
    return [
        OperatingPoint(EER_POINT, threshold_at(trials)),
        *(OperatingPoint(f"far_{percent:g}", threshold_at(trials, percent)) for percent in resolved),
    ]


def is_resolved(percent: float, num_others: int) -> bool:
    """Whether so many non-target trials show this false-accept rate."""
    return percent / 100 * num_others >= FEWEST_ERRORS


@dataclass(frozen=True)
class Swapped:
    """A list as the new system scores it, and as the former did.

    Attributes:
        scores: ``[num_trials]``.
        former: Scores of the former system.
        labels: True for target trials.
        threshold: Of the former system.
        calibration: Of the former system's scores.
        folds: Of the list's speakers, where it has enough.
    """

    scores: Array
    former: Array
    labels: BooleanArray
    threshold: float
    calibration: ScoreCalibration
    folds: SpeakerFolds | None

    @property
    def accepted(self) -> BooleanArray:
        """What is accepted now."""
        return self.scores >= self.threshold

    @property
    def was_accepted(self) -> BooleanArray:
        """What was accepted."""
        return self.former >= self.threshold

    @property
    def ratios(self) -> Array:
        """Log-likelihood ratios by the former system's calibration."""
        return self.calibration.ratios(self.scores)

    @property
    def refitted_ratios(self) -> Array:
        """Log-likelihood ratios by calibrations fitted to the scores of other speakers of the list."""
        assert self.folds is not None
        return self.folds.ratios(self.scores, self.labels)

    @property
    def shift(self) -> Array:
        """What scores are moved by, in deviations of the former scores of trials of their kind."""
        of_others, of_targets = (np.std(self.former[self.labels == kind]) for kind in (False, True))
        shift: Array = (self.scores - self.former) / np.where(self.labels, of_targets, of_others)
        return shift


@dataclass(frozen=True, kw_only=True)
class SwapMetric(Compared):
    """A number of a swap: a weighted sum of two means.

    Attributes:
        of_trials: What is averaged, ``[num_trials]``.
        targets: Weight of the mean over target trials.
        others: Weight of the mean over non-target trials.
        is_change: Whether it compares the two systems itself; others are numbers of one system, and come with
            those of the former and with the difference.
    """

    of_trials: Callable[[Swapped], Array | BooleanArray]
    targets: float = 0.0
    others: float = 0.0
    is_change: bool = False

    @property
    def interval(self) -> tuple[str, str]:
        return self.low.name, self.high.name

    @property
    def numbers(self) -> tuple[Metric, ...]:
        """All that a result says of it."""
        own = (self, self.low, self.high)
        return own if self.is_change else (*own, self.baseline, self.delta, self.delta.low, self.delta.high)

    def at(self, point: str) -> "SwapMetric":
        """The same at an operating point."""
        return replace(self, name=f"{self.name}{_AT}{point}", heading=f"{self.heading} {_in_words(point)}")

    @property
    def with_kept_voiceprints(self) -> "SwapMetric":
        """The same where voiceprints stay too."""
        return replace(self, name=KEPT_VOICEPRINTS + self.name, heading=f"{self.heading}, {_KEPT_IN_WORDS}")


def _in_words(point: str) -> str:
    if point == EER_POINT:
        return "at FP32's EER threshold"
    return f"at FP32's {point.removeprefix('far_')} % threshold"


def _percent(
    name: str,
    heading: str,
    of_trials: Callable[[Swapped], BooleanArray],
    *,
    targets: float = 0.0,
    others: float = 0.0,
    is_change: bool = False,
) -> SwapMetric:
    return SwapMetric(
        name,
        heading,
        "%",
        Direction.minimize,
        of_trials=of_trials,
        targets=100 * targets,
        others=100 * others,
        is_change=is_change,
        largest=100.0,
    )


FALSE_REJECTS = _percent("frr", "false rejects", lambda swapped: ~swapped.accepted, targets=1)
FALSE_ACCEPTS = _percent("far", "false accepts", lambda swapped: swapped.accepted, others=1)
NEWLY_REJECTED = _percent(
    "newly_rejected",
    "targets newly rejected",
    lambda swapped: swapped.was_accepted & ~swapped.accepted,
    targets=1,
    is_change=True,
)
NEWLY_ACCEPTED = _percent(
    "newly_accepted",
    "others newly accepted",
    lambda swapped: swapped.accepted & ~swapped.was_accepted,
    others=1,
    is_change=True,
)


def flips(share_of_targets: float) -> SwapMetric:
    """Decisions that change, among all of a list with such a share of target trials."""
    return _percent(
        "flips",
        "decisions that flip",
        lambda swapped: swapped.accepted != swapped.was_accepted,
        targets=share_of_targets,
        others=1 - share_of_targets,
        is_change=True,
    )


def _cost(p_target: float) -> SwapMetric:
    """The normalised detection cost, of which minDCF is the smallest over all thresholds."""
    least = min(p_target, 1 - p_target)
    return SwapMetric(
        "dcf",
        "DCF",
        "",
        Direction.minimize,
        of_trials=lambda swapped: swapped.accepted != swapped.labels,
        targets=p_target / least,
        others=(1 - p_target) / least,
        largest=1 / least,
    )


TARGET_SHIFT = SwapMetric(
    *("target_shift", "shift of target scores", "", Direction.maximize, "+.3f"),
    of_trials=lambda swapped: swapped.shift,
    targets=1.0,
    is_change=True,
)
OTHERS_SHIFT = SwapMetric(
    *("nontarget_shift", "shift of other scores", "", Direction.minimize, "+.3f"),
    of_trials=lambda swapped: swapped.shift,
    others=1.0,
    is_change=True,
)
CLLR = SwapMetric(
    *("cllr", "Cllr", "bits", Direction.minimize),
    of_trials=lambda swapped: costs_in_bits(swapped.ratios, swapped.labels),
    targets=0.5,
    others=0.5,
)
"""Of log-likelihood ratios by the former system's calibration."""

REFITTED_CLLR = replace(
    CLLR,
    name="refitted_cllr",
    heading="Cllr, calibrated anew",
    of_trials=lambda swapped: costs_in_bits(swapped.refitted_ratios, swapped.labels),
)
"""By calibrations fitted anew, each judged on other speakers than it was fitted on."""

MIN_CLLR = Metric("min_cllr", "minCllr", "bits", Direction.minimize)
"""Of the best calibration that there can be (:func:`speakerquant.statistics.score_calibration.min_cllr`)."""

BASELINE_MIN_CLLR = MIN_CLLR.derived(f"baseline_{MIN_CLLR.name}", f"baseline {MIN_CLLR.heading}")

KEPT_EER = replace(EER, name=f"{KEPT_VOICEPRINTS}{EER.name}", heading=f"{EER.heading}, {_KEPT_IN_WORDS}")
"""Where voiceprints stay; it depends on no threshold."""


def _metrics(
    points: Sequence[str], p_target: float, share_of_targets: float, *, refitted: bool = True
) -> list[tuple[SwapMetric, str | None]]:
    """Every metric of a swap that is made of means, with the operating point that it is of, if any."""
    decided = (
        *(FALSE_REJECTS, FALSE_ACCEPTS, NEWLY_REJECTED, NEWLY_ACCEPTED),
        *(flips(share_of_targets), _cost(p_target)),
    )
    whole = (TARGET_SHIFT, OTHERS_SHIFT, CLLR, *([REFITTED_CLLR] if refitted else []))
    return [
        *((metric, None) for metric in whole),
        *((metric.at(point), point) for point in points for metric in decided),
    ]


def points_among(names: Iterable[str]) -> list[str]:
    """The operating points that numbers of these names are of, each once."""
    return list(dict.fromkeys(point for name in names for point in _POINT.findall(name)))


def swap_number(name: str) -> Metric | None:
    """The description of a number of a swap by its name; none of another one."""
    described = [MIN_CLLR, BASELINE_MIN_CLLR, *KEPT_EER.numbers]
    for metric, _ in _metrics(_POINT.findall(name), p_target=0.01, share_of_targets=0.5):
        described += [*metric.numbers, *metric.with_kept_voiceprints.numbers]
    return next((each for each in described if each.name == name), None)


@dataclass(frozen=True)
class FormerSystem:
    """The system that is replaced, on the same list.

    Attributes:
        scores: ``[num_trials]``.
        points: Its thresholds.
        calibration: Of its scores.
        p_target: The prior that costs are of.
        bootstrap: Draws of the list's speakers.
        folds: Of its speakers, for calibrations that are fitted anew; none leaves these out.
    """

    scores: Array
    points: Sequence[OperatingPoint]
    calibration: ScoreCalibration
    p_target: float
    bootstrap: SpeakerBootstrap
    folds: SpeakerFolds | None = None

    @cached_property
    def metrics(self) -> Sequence[tuple[SwapMetric, OperatingPoint | None]]:
        """What is measured of systems in its place, with the threshold that it is measured at, if any."""
        points = {point.name: point for point in self.points}
        share_of_targets = float(self.bootstrap.labels.mean())
        return [
            (metric, points[point] if point else None)
            for metric, point in _metrics(
                [*points], self.p_target, share_of_targets, refitted=self.folds is not None
            )
        ]

    @cached_property
    def min_cllr(self) -> float:
        """The Cllr of its scores by the best calibration that there can be."""
        return min_cllr(self.scores, self.bootstrap.labels)

    @cached_property
    def own(self) -> Mapping[str, tuple[float, Array]]:
        """The metrics of itself in its own place, as :meth:`measured` gives them."""
        return self.measured(self.scores, changes=False)

    def measured(self, scores: Array, *, changes: bool = True) -> Mapping[str, tuple[float, Array]]:
        """By name the metrics of a system in its place, and on every draw, ``[num_replicates]``.

        Args:
            scores: Of the system, ``[num_trials]``.
            changes: Whether those are wanted, too, that compare it with the former system.
        """
        metrics = [each for each in self.metrics if changes or not each[0].is_change]
        threshold_of = [point.threshold if point else np.nan for _, point in metrics]
        labels = self.bootstrap.labels
        swapped = (
            Swapped(scores, self.scores, labels, each, self.calibration, self.folds) for each in threshold_of
        )
        means, drawn = self.bootstrap.means(
            metric.of_trials(each) for (metric, _), each in zip(metrics, swapped, strict=True)
        )
        found = {}
        for place, (metric, _) in enumerate(metrics):
            weights = [(0, metric.others), (1, metric.targets)]
            found[metric.name] = tuple(
                sum(weight * of[kind, place] for kind, weight in weights if weight) for of in (means, drawn)
            )
        return found


def swap_numbers(scores: Array, former: FormerSystem, *, voiceprints_kept: bool) -> dict[str, float]:
    """The numbers of a swap that are made of means, by name.

    Args:
        scores: Of the new system, ``[num_trials]``.
        former: What it replaces.
        voiceprints_kept: Whether the scores are those of voiceprints that the former system enrolled.
    """
    numbers: dict[str, float] = {}
    measured = former.measured(scores)
    for metric, _ in former.metrics:
        named = metric.with_kept_voiceprints if voiceprints_kept else metric
        value, replicates = measured[metric.name]
        if metric.is_change:  # which the former system in its own place makes none of
            change = difference(value, replicates, np.zeros_like(replicates))
            numbers |= {named.name: value, named.low.name: change.low, named.high.name: change.high}
            continue
        baseline, baseline_replicates = former.own[metric.name]
        delta = difference(value - baseline, replicates, baseline_replicates)
        interval = former.bootstrap.interval(value, replicates, metric.largest)
        numbers |= {
            named.name: value,
            named.low.name: interval.low,
            named.high.name: interval.high,
            named.baseline.name: baseline,
            named.delta.name: delta.value,
            named.delta.low.name: delta.low,
            named.delta.high.name: delta.high,
        }
    return numbers
