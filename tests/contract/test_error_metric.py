"""What every error metric must do, whatever it computes."""

from pathlib import Path

import numpy as np
import pytest
from cllr import CLLR
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speakerquant.cache import Cache
from speakerquant.statistics.comparison import compare
from speakerquant.statistics.error_metrics import EER, error_metrics, error_number
from speakerquant.statistics.error_rates import ScoredTrials
from speakerquant.statistics.metric import ErrorMetric
from speakerquant.statistics.uncertainty import Array, SpeakerBootstrap

METRICS = [*error_metrics([0.01, 0.5]), CLLR]
every_metric = pytest.mark.parametrize("metric", METRICS, ids=[metric.name for metric in METRICS])

SPEAKERS = np.repeat(np.arange(8), 4)
LEFT, RIGHT = (SPEAKERS[side] for side in np.triu_indices(len(SPEAKERS), 1))
LABELS = LEFT == RIGHT

few_examples = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
seeds = st.integers(0, 2**32 - 1)
margins = st.floats(-1, 4)
digits = st.sampled_from([0, 1, 9])  # many equal scores, some, none


def scores_of(seed: int, margin: float, digits: int = 9) -> Array:
    return (np.random.default_rng(seed).standard_normal(len(LABELS)) + margin * LABELS).round(digits)


def value_of(metric: ErrorMetric, scores: Array, labels: np.ndarray = LABELS) -> float:
    return metric.compute(ScoredTrials.of(scores, labels))


@every_metric
@few_examples
@given(seed=seeds, margin=margins, digits=digits)
def test_order_of_trials_does_not_matter(metric: ErrorMetric, seed: int, margin: float, digits: int) -> None:
    scores = scores_of(seed, margin, digits)
    order = np.random.default_rng(seed).permutation(len(scores))
    assert value_of(metric, scores[order], LABELS[order]) == pytest.approx(
        value_of(metric, scores), rel=1e-12
    )


@every_metric
@few_examples
@given(seed=seeds, margin=margins, digits=digits)
def test_a_draw_of_speakers_is_the_list_with_trials_repeated(
    metric: ErrorMetric, seed: int, margin: float, digits: int
) -> None:
    scores = scores_of(seed, margin, digits)
    drawn = np.random.default_rng(seed).multinomial(8, np.full(8, 1 / 8), size=3)
    [values] = SpeakerBootstrap(LEFT, RIGHT, LABELS, 3, seed).replicates(scores, [metric])
    for counts, value in zip(drawn, values, strict=True):
        times = counts[LEFT] * np.where(LABELS, 1, counts[RIGHT])
        repeated, labels = np.repeat(scores, times), np.repeat(LABELS, times)
        assert value == pytest.approx(value_of(metric, repeated, labels))


@every_metric
@given(seed=seeds)
@few_examples
def test_trials_that_are_told_apart_have_no_error_and_confused_ones_have_more(
    metric: ErrorMetric, seed: int
) -> None:
    noise = np.random.default_rng(seed).uniform(-1, 1, len(LABELS))
    apart = np.where(LABELS, 100, -100)
    assert value_of(metric, noise + apart) == pytest.approx(0, abs=1e-9)
    assert value_of(metric, noise - apart) >= value_of(metric, noise) > 0


@every_metric
@few_examples
@given(seed=seeds, margin=margins, loss=st.floats(0, 1))
def test_a_value_lies_in_its_interval_and_every_number_is_described(
    metric: ErrorMetric, seed: int, margin: float, loss: float, tmp_path: Path
) -> None:
    scores, worse = scores_of(seed, margin), scores_of(seed, margin - loss)
    bootstrap = SpeakerBootstrap(LEFT, RIGHT, LABELS, 50, seed)
    numbers = compare(worse, scores, bootstrap, [EER, metric], Cache(tmp_path)).numbers
    assert numbers[metric.name] == value_of(metric, worse)
    assert numbers[metric.baseline.name] == value_of(metric, scores)
    assert numbers[metric.low.name] <= numbers[metric.name] <= numbers[metric.high.name]
    assert numbers[metric.delta.name] == numbers[metric.name] - numbers[metric.baseline.name]
    assert numbers[metric.delta.low.name] <= numbers[metric.delta.high.name]
    assert {each.name for each in metric.numbers} <= set(numbers)
    assert len({each.name for each in metric.numbers}) == len({each.label for each in metric.numbers}) == 8


@pytest.mark.parametrize(
    ("metric", "margin", "largest"),
    [(METRICS[0], -3.5, 100.0), (METRICS[1], 1.5, 1.0), (METRICS[2], 0.0, 1.0)],
    ids=[metric.name for metric in METRICS[:3]],
)
def test_the_interval_of_a_high_rate_ends_at_the_most_that_can_be(
    metric: ErrorMetric, margin: float, largest: float, tmp_path: Path
) -> None:
    scores, bootstrap = scores_of(0, margin), SpeakerBootstrap(LEFT, RIGHT, LABELS, 50)
    numbers = compare(scores, scores, bootstrap, [EER, metric], Cache(tmp_path)).numbers
    assert numbers[metric.name] < numbers[metric.high.name] == largest


@every_metric
@few_examples
@given(seed=seeds, margin=margins)
def test_a_system_differs_from_itself_by_nothing(
    metric: ErrorMetric, seed: int, margin: float, tmp_path: Path
) -> None:
    scores, bootstrap = scores_of(seed, margin), SpeakerBootstrap(LEFT, RIGHT, LABELS, 50, seed)
    numbers = compare(scores, scores, bootstrap, [EER, metric], Cache(tmp_path)).numbers
    delta = metric.delta
    assert [numbers[each.name] for each in (delta, delta.low, delta.high, delta.p)] == [0, 0, 0, 1]


@every_metric
def test_its_numbers_are_found_by_name_once_it_is_registered(metric: ErrorMetric, cllr: ErrorMetric) -> None:
    for number in metric.numbers:
        found = error_number(number.name)
        assert found is not None
        assert (found.label, found.text(1.0)) == (number.label, number.text(1.0))


def test_cllr_is_known_only_while_it_is_registered() -> None:
    assert error_number(CLLR.name) is None


def test_a_system_that_knows_nothing_costs_one_bit() -> None:
    assert value_of(CLLR, np.zeros(len(LABELS))) == pytest.approx(1)
