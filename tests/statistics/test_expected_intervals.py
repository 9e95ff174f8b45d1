"""Intervals that are expected of a list, against those that the bootstrap gives of made-up scores."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.expected_intervals import FALSE_ACCEPTS_ALIKE, MISSES_ALIKE, ExpectedIntervals
from speakerquant.statistics.uncertainty import SpeakerBootstrap, difference

NUM_SPEAKERS, NUM_RECORDINGS = 60, 6
SPEAKERS = np.repeat(np.arange(NUM_SPEAKERS), NUM_RECORDINGS)
LEFT, RIGHT = (SPEAKERS[side] for side in np.triu_indices(len(SPEAKERS), 1))
LABELS = LEFT == RIGHT
LIST = ExpectedIntervals(LEFT, RIGHT, LABELS)
MARGIN = 4.0  # between the means of target and other scores, of deviation 1
TRUE_EER = 100 * norm.cdf(-MARGIN / 2)


def scores(of_speakers: np.ndarray, of_trials: np.ndarray) -> np.ndarray:
    """With half of the variance of target trials and a fifth of that of others from the speakers."""
    same = np.sqrt(0.5) * of_speakers[0, LEFT] + np.sqrt(0.5) * of_trials
    other = np.sqrt(0.1) * (of_speakers[1, LEFT] + of_speakers[1, RIGHT]) + np.sqrt(0.8) * of_trials
    return np.where(LABELS, MARGIN + same, other)


@pytest.mark.parametrize("alike", [0.9999, 0.99])
def test_expected_intervals_are_of_the_size_that_the_bootstrap_finds(alike: float) -> None:
    rng = np.random.default_rng(0)
    bootstrap = SpeakerBootstrap(LEFT, RIGHT, LABELS, num_replicates=200)
    speakers, trials = rng.standard_normal((2, NUM_SPEAKERS)), rng.standard_normal(len(LABELS))
    changed = (
        alike * each + np.sqrt(1 - alike**2) * rng.standard_normal(each.shape) for each in (speakers, trials)
    )
    (first,), (second,) = (
        bootstrap.replicates(each, [EER]) for each in (scores(speakers, trials), scores(*changed))
    )
    found = bootstrap.interval(TRUE_EER, first)
    expected = LIST.of_eer(TRUE_EER)
    widths = [np.log(each.high / each.low) for each in (expected, found)]
    assert 1 / 1.5 < widths[0] / widths[1] < 1.5
    apart = difference(0.0, second, first)
    half_width = LIST.half_width_of_difference(TRUE_EER, alike)
    assert 1 / 1.5 < half_width / ((apart.high - apart.low) / 2) < 1.5


def test_four_of_five_lists_show_a_difference_that_is_said_to_be_shown() -> None:
    """What lists find is as far from the true difference as their intervals say."""
    least, half_width = LIST.shown_difference(2, 0.99), LIST.half_width_of_difference(2, 0.99)
    deviation = half_width / norm.ppf(0.975)
    found = np.random.default_rng(0).normal(least, deviation, size=10_000)
    assert np.mean(found > half_width) == pytest.approx(0.8, abs=0.02)


def test_no_more_than_all_trials_are_wrong() -> None:
    left, right = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 1, 2, 1, 2, 0])
    assert ExpectedIntervals(left, right, left == right).of_eer(2.0).high == 100.0


def test_more_speakers_tell_more_than_more_trials_of_the_same() -> None:
    twice_the_trials = ExpectedIntervals(*(np.tile(each, 4) for each in (LEFT, RIGHT, LABELS)))
    others = LEFT.max() + 1
    speakers = [np.concatenate([each + number * others for number in range(4)]) for each in (LEFT, RIGHT)]
    four_times_the_speakers = replace(twice_the_trials, left=speakers[0], right=speakers[1])
    now, trials, people = (
        each.half_width_of_difference(2, 0.99) for each in (LIST, twice_the_trials, four_times_the_speakers)
    )
    assert people < trials < now
    assert people == pytest.approx(now / 2, rel=0.05)


def test_one_target_trial_each_is_as_good_as_independent() -> None:
    left = np.arange(200) % 100
    trials = ExpectedIntervals(
        left, np.where(np.arange(200) < 100, left, (left + 1) % 100), np.arange(200) < 100
    )
    assert MISSES_ALIKE > FALSE_ACCEPTS_ALIKE
    assert list(trials.num_trials_of_speakers(target=True)) == [1] * 100
    assert list(trials.num_trials_of_speakers(target=False)) == [2] * 100
    shares = 0.02 * 0.98 * (1 / 100 + 1 / 100 + FALSE_ACCEPTS_ALIKE * 2 * 100 / 100**2) / 4
    assert np.log(trials.of_eer(2).high / 2) == pytest.approx(1.984 * np.sqrt(shares) / 0.02, rel=0.01)
