import itertools
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from speakerquant.errors import UserError
from speakerquant.statistics.error_rates import (
    ScoredTrials,
    crossing,
    eer,
    error_rates,
    lowest_cost,
    min_dcf,
    threshold_at,
    turning_points,
)


def _trials(
    seed: int, num_trials: int = 400, p_target: float = 0.3, shift: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(num_trials) < p_target
    labels[:2] = True, False
    return rng.standard_normal(num_trials) + shift * labels, labels


def _with_scores(
    change: Callable[[np.ndarray], np.ndarray], **kwargs: float
) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = _trials(1, **kwargs)  # type: ignore[arg-type]
    return change(scores), labels


TRIALS = {
    "no ties": _trials(0),
    "some ties": _with_scores(lambda s: s.round(1)),
    "a handful of scores": _with_scores(np.round),
    "two scores": _with_scores(np.sign),
    "all equal": _with_scores(np.zeros_like),
    "separable": _trials(2, shift=100.0),
    "inverted": _trials(3, shift=-3.0),
    "separable but for a tie": (np.array([0.0, 1.0, 1.0, 2.0]), np.array([0, 0, 1, 1])),
    "few targets": _trials(4, p_target=0.01),
    "few non-targets": _trials(5, p_target=0.99),
    "one of each": _trials(6, num_trials=2),
    "float32": _with_scores(np.float32),
    "whole numbers": _with_scores(lambda s: (4 * s).astype(np.int32)),
    "minus and plus infinity": _with_scores(lambda s: np.where(np.abs(s) > 2, s * np.inf, s)),
}
every_trial_list = pytest.mark.parametrize(("scores", "labels"), TRIALS.values(), ids=TRIALS)


def _brute_force_points(scores: np.ndarray, labels: np.ndarray) -> list[tuple[float, float]]:
    """(FAR, FRR) of every threshold, rising, from accepting all to rejecting all."""
    targets, others = scores[labels == 1], scores[labels == 0]
    points = [
        (float((others >= t).mean()), float((targets < t).mean())) for t in sorted(set(scores.tolist()))
    ]
    return [*points, (0.0, 1.0)]


def _brute_force_eer(scores: np.ndarray, labels: np.ndarray) -> float:
    points = _brute_force_points(scores, labels)
    for (far0, frr0), (far1, frr1) in itertools.pairwise(points):
        if far1 <= frr1:
            weight = (far0 - frr0) / (far0 - frr0 + frr1 - far1)
            return 100 * (far0 + weight * (far1 - far0))
    raise AssertionError("the rates always cross")


@every_trial_list
def test_eer_equals_brute_force_over_thresholds(scores: np.ndarray, labels: np.ndarray) -> None:
    assert eer(scores, labels) == pytest.approx(_brute_force_eer(scores, labels), abs=1e-9)


@every_trial_list
@pytest.mark.parametrize("p_target", [0.01, 0.05, 0.5, 0.9])
def test_min_dcf_equals_brute_force_over_thresholds(
    scores: np.ndarray, labels: np.ndarray, p_target: float
) -> None:
    costs = [p_target * frr + (1 - p_target) * far for far, frr in _brute_force_points(scores, labels)]
    expected = min(costs) / min(p_target, 1 - p_target)
    assert min_dcf(scores, labels, p_target) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [t for t in TRIALS.values() if np.isfinite(t[0]).all()],  # scikit-learn refuses infinite scores
    ids=[name for name, t in TRIALS.items() if np.isfinite(t[0]).all()],
)
def test_agrees_with_scikit_learn(scores: np.ndarray, labels: np.ndarray) -> None:
    false_positives, true_positives, _ = roc_curve(labels, scores, drop_intermediate=False)
    misses = 1 - true_positives
    crossing = np.interp(0, false_positives - misses, misses)
    assert eer(scores, labels) == pytest.approx(100 * crossing, abs=1e-9)
    cost = (0.01 * misses + 0.99 * false_positives).min() / 0.01
    assert min_dcf(scores, labels) == pytest.approx(cost, abs=1e-9)


@every_trial_list
def test_operating_points_run_from_accepting_all_to_rejecting_all(
    scores: np.ndarray, labels: np.ndarray
) -> None:
    far, frr = error_rates(scores, labels)
    assert (far[0], frr[0], far[-1], frr[-1]) == (1, 0, 0, 1)
    assert len(far) == len(np.unique(scores)) + 1


@every_trial_list
def test_turning_points_tell_the_same_with_fewer_thresholds(scores: np.ndarray, labels: np.ndarray) -> None:
    order = np.argsort(scores)
    turns = turning_points(scores[order], labels[order].astype(bool))
    targets_below = np.concatenate([[0], np.cumsum(labels[order])])[turns]
    num_targets = int(np.sum(labels))
    frr = targets_below / num_targets
    far = 1 - (turns - targets_below) / (len(labels) - num_targets)
    assert crossing(far, frr) == pytest.approx(eer(scores, labels))
    for p_target in (0.01, 0.5):
        assert lowest_cost(far, frr, p_target) == pytest.approx(min_dcf(scores, labels, p_target))
    every, _ = error_rates(scores, labels)
    runs = 2 + np.count_nonzero(np.diff(labels[order].astype(int)))
    assert len(turns) <= min(len(every), 2 * runs)


@pytest.mark.parametrize(("false_accepts", "accepted"), [(None, 3), (0, 0), (25, 2), (50, 4), (100, 6)])
def test_a_threshold_accepts_no_more_than_it_may(false_accepts: float | None, accepted: int) -> None:
    """Of two target trials and four others, one of which has the best score."""
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    trials = ScoredTrials.of(scores, [0, 1, 0, 1, 0, 0])
    assert np.count_nonzero(scores >= threshold_at(trials, false_accepts)) == accepted


def test_order_of_trials_does_not_matter() -> None:
    scores, labels = TRIALS["some ties"]
    order = np.random.default_rng(0).permutation(len(scores))
    assert eer(scores[order], labels[order]) == eer(scores, labels)
    assert min_dcf(scores[order], labels[order]) == min_dcf(scores, labels)


@pytest.mark.parametrize("metric", [eer, min_dcf])
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2], [1, 1], "no non-target trial"),
        ([0.1, 0.2], [0, 0], "no target trial"),
        ([], [], "no target trial"),
        ([0.1, 0.2, float("nan")], [0, 1, 1], "score of trial 2 is NaN"),
        ([0.1, 0.2, 0.3], [0, 1], "3 scores for 2 labels"),
        ([0.1, 0.2, 0.3], [0, 1, 2], "labels other than 0 and 1"),
    ],
    ids=["only targets", "only non-targets", "no trial", "NaN", "lengths differ", "other label"],
)
def test_refuses_what_has_no_error_rate(
    metric: Callable[..., float], scores: list[float], labels: list[int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        metric(scores, labels)
