"""Compares a mask with the baseline: how sure its error metrics are, and by how much they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from speakerquant import schema_versions
from speakerquant.cache import Cache
from speakerquant.files import digest, sha256
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.error_rates import ScoredTrials
from speakerquant.statistics.expected_intervals import ExpectedIntervals
from speakerquant.statistics.metric import ErrorMetric
from speakerquant.statistics.uncertainty import Array, Difference, Interval, SpeakerBootstrap, difference

_KIND, _SUFFIX = "replicates", ".npz"


@dataclass(frozen=True)
class ComparedMetric:
    """An error metric of a mask beside that of the baseline.

    Attributes:
        metric: Which it is.
        value: Of the mask.
        interval: Where it lies.
        baseline: Of the baseline.
        difference: Between the two.
    """

    metric: ErrorMetric
    value: float
    interval: Interval
    baseline: float
    difference: Difference

    @property
    def numbers(self) -> dict[str, float]:
        """All of it by the names of :attr:`ErrorMetric.numbers`."""
        metric, delta = self.metric, self.metric.delta
        return {
            metric.name: self.value,
            metric.low.name: self.interval.low,
            metric.high.name: self.interval.high,
            metric.baseline.name: self.baseline,
            delta.name: self.difference.value,
            delta.low.name: self.difference.low,
            delta.high.name: self.difference.high,
            delta.p.name: self.difference.p,
        }


@dataclass(frozen=True)
class Comparison:
    """A mask's error metrics beside the baseline's.

    Attributes:
        metrics: By name.
        draws: Name of the cache's entry with the mask's metrics on every draw, for :func:`is_tie`.
        replicates: These metrics ``[num_replicates]`` by name.
    """

    metrics: Mapping[str, ComparedMetric]
    draws: str
    replicates: Mapping[str, Array]

    @property
    def numbers(self) -> dict[str, float]:
        """Every number by name."""
        return {name: value for each in self.metrics.values() for name, value in each.numbers.items()}

    @property
    def is_tie(self) -> bool:
        """Whether nothing shows that mask and baseline differ in EER."""
        return self.metrics[EER.name].difference.is_tie


def compare(
    scores: Array,
    baseline_scores: Array,
    bootstrap: SpeakerBootstrap,
    metrics: Sequence[ErrorMetric],
    cache: Cache,
    *,
    is_kept: bool = True,
) -> Comparison:
    """Compare scores ``[num_trials]`` of a mask with those of the baseline.

    Args:
        scores: Of the mask.
        baseline_scores: Of the baseline.
        bootstrap: Draws of the speakers.
        metrics: What is compared, the EER among them.
        cache: Keeps what the draws give: the baseline's is the same in every comparison.
        is_kept: Whether it keeps what they give for ``scores``, too.
    """
    draws = _drawn(scores, bootstrap, metrics, cache if is_kept else None)
    baseline_draws = _drawn(baseline_scores, bootstrap, metrics, cache)
    compared = {}
    trials, baseline_trials = (ScoredTrials.of(each, bootstrap.labels) for each in (scores, baseline_scores))
    for metric in metrics:
        value, baseline = metric.compute(trials), metric.compute(baseline_trials)
        replicates, baseline_replicates = draws.values[metric.name], baseline_draws.values[metric.name]
        found = difference(value - baseline, replicates, baseline_replicates)
        is_still = bool({found.low, found.high} & {found.value, 0.0})
        if metric.name == EER.name and is_still and not np.array_equal(scores, baseline_scores):
            found = _expected(found, baseline, scores, baseline_scores, bootstrap)
        compared[metric.name] = ComparedMetric(
            metric,
            value,
            bootstrap.interval(value, replicates, metric.largest),
            baseline,
            found,
        )
    return Comparison(compared, draws.name, draws.values)


def _expected(
    found: Difference, eer: float, scores: Array, baseline_scores: Array, bootstrap: SpeakerBootstrap
) -> Difference:
    """A difference of EERs that draws do not move one way though scores differ, with the end to be expected.

    That of such a list and scores that correlate so. Without an error, the EER is supposed to be the most
    that so many target trials may hide: by the rule of three, 3 of them.
    """
    labels = bootstrap.labels
    centered = (
        each - np.where(labels, each[labels].mean(), each[~labels].mean())
        for each in (scores, baseline_scores)
    )
    alike = min(1.0, float(np.corrcoef(*centered)[0, 1]))
    supposed = eer or min(50.0, 300 / np.count_nonzero(labels))
    expected = ExpectedIntervals(bootstrap.left, bootstrap.right, labels)
    half_width = expected.half_width_of_difference(supposed, alike)
    low, high = found.value - half_width, found.value + half_width
    still = (found.value, 0.0)
    return replace(
        found,
        low=min(low, found.low) if found.low in still else found.low,
        high=max(high, found.high) if found.high in still else found.high,
        is_expected=True,
    )


def is_tie(draws: str, others: str, cache: Cache) -> bool | None:
    """Whether nothing shows which of two masks has the lower EER; none if the cache has their draws no more.

    Args:
        draws: Of one mask, on the same list (:attr:`Comparison.draws`).
        others: Of the other one.
        cache: What both were compared with.
    """
    eers = [
        found[EER.name] for name in (draws, others) if (found := cache.find(_KIND, name, read_draws, _SUFFIX))
    ]
    return difference(0.0, *eers).is_tie if len(eers) == 2 else None


@dataclass(frozen=True)
class _Draws:
    """Error metrics on every draw ``[num_replicates]`` by name; and the name of the cache's entry."""

    name: str
    values: Mapping[str, Array]


def _drawn(
    scores: Array, bootstrap: SpeakerBootstrap, metrics: Sequence[ErrorMetric], cache: Cache | None
) -> _Draws:
    arrays = (scores, bootstrap.left, bootstrap.right, bootstrap.labels)
    contents = [sha256(each.tobytes()) for each in arrays]
    measures = [[metric.name, metric.settings] for metric in metrics]
    key = digest(schema_versions.REPLICATES, contents, bootstrap.num_replicates, bootstrap.seed, measures)

    def draw() -> dict[str, Array]:
        replicates = bootstrap.replicates(scores, metrics)
        return {metric.name: row for metric, row in zip(metrics, replicates, strict=True)}

    if cache is None:
        return _Draws(key, draw())
    values = cache.read(_KIND, key, lambda part: write_draws(draw(), part), read_draws, _SUFFIX)
    return _Draws(key, values)


def write_draws(draws: Mapping[str, Array], path: Path) -> None:
    """Keep error metrics on every draw ``[num_replicates]`` by name in a file."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **draws)


def read_draws(path: Path) -> dict[str, Array]:
    """Error metrics on every draw ``[num_replicates]`` by name, as :func:`write_draws` kept them."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
