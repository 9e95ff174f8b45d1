"""Intervals from drawn speakers: what a draw means, and what follows for one system and for two."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerquant import schema_versions
from speakerquant.cache import Cache
from speakerquant.errors import UserError
from speakerquant.statistics.comparison import compare
from speakerquant.statistics.error_metrics import EER, error_metrics
from speakerquant.statistics.error_rates import eer, min_dcf
from speakerquant.statistics.expected_intervals import ExpectedIntervals
from speakerquant.statistics.uncertainty import Array, SpeakerBootstrap, difference

NUM_SPEAKERS = 12
SPEAKERS = np.repeat(np.arange(NUM_SPEAKERS), 5)
LEFT, RIGHT = np.triu_indices(len(SPEAKERS), 1)
LABELS = SPEAKERS[LEFT] == SPEAKERS[RIGHT]


def bootstrap(num_replicates: int = 200) -> SpeakerBootstrap:
    return SpeakerBootstrap(SPEAKERS[LEFT], SPEAKERS[RIGHT], LABELS, num_replicates)


def scores_of(margin: float, seed: int, digits: int = 9) -> Array:
    return (np.random.default_rng(seed).standard_normal(len(LABELS)) + margin * LABELS).round(digits)


@pytest.mark.parametrize("digits", [9, 1], ids=["distinct scores", "many equal scores"])
def test_a_draw_is_the_list_with_trials_repeated(digits: int) -> None:
    scores = scores_of(2.0, seed=0, digits=digits)
    drawn = np.random.default_rng(0).multinomial(
        NUM_SPEAKERS, np.full(NUM_SPEAKERS, 1 / NUM_SPEAKERS), size=20
    )
    eers, min_dcfs = bootstrap(20).replicates(scores, error_metrics([0.05]))
    for counts, each_eer, each_cost in zip(drawn, eers, min_dcfs, strict=True):
        times = counts[SPEAKERS[LEFT]] * np.where(LABELS, 1, counts[SPEAKERS[RIGHT]])
        repeated, labels = np.repeat(scores, times), np.repeat(LABELS, times)
        assert each_eer == pytest.approx(eer(repeated, labels))
        assert each_cost == pytest.approx(min_dcf(repeated, labels, 0.05))


def test_an_interval_holds_what_was_found_and_narrows_with_more_speakers() -> None:
    def width(num_speakers: int) -> float:
        chosen = (SPEAKERS[LEFT] < num_speakers) & (SPEAKERS[RIGHT] < num_speakers)
        drawn = SpeakerBootstrap(SPEAKERS[LEFT][chosen], SPEAKERS[RIGHT][chosen], LABELS[chosen], 200)
        scores = scores_of(2.0, seed=0)[chosen]
        found = eer(scores, LABELS[chosen])
        interval = drawn.interval(found, drawn.replicates(scores, [EER])[0])
        assert 0 < interval.low < found < interval.high
        return interval.high / interval.low

    assert width(12) < width(4)


def test_a_system_is_tied_with_itself_and_not_with_a_worse_one(tmp_path: Path) -> None:
    better, worse = scores_of(4.0, seed=0), scores_of(1.0, seed=1)
    itself = compare(better, better, bootstrap(), [EER], Cache(tmp_path)).metrics[EER.name].difference
    assert (itself.low, itself.value, itself.high) == (0, 0, 0)
    assert itself.is_tie
    assert itself.p == 1
    lost = compare(worse, better, bootstrap(), [EER], Cache(tmp_path)).metrics[EER.name].difference
    assert 0 < lost.low < lost.value < lost.high
    assert not lost.is_tie
    assert 0 < lost.p < 0.01
    assert lost.value == pytest.approx(eer(worse, LABELS) - eer(better, LABELS))


@pytest.mark.parametrize(("margin", "supposed"), [(4.0, None), (9.0, 300 / 30)])
def test_where_scores_move_and_no_draw_does_the_interval_is_that_of_such_a_list(
    margin: float, supposed: float | None, tmp_path: Path
) -> None:
    """Ten speakers of three recordings: 30 target trials, of which 3 may be missed where none is here."""
    speakers = np.repeat(np.arange(10), 3)
    left, right = (speakers[side] for side in np.triu_indices(len(speakers), 1))
    labels = left == right
    deviations, changes = np.random.default_rng(0).standard_normal((2, len(labels)))
    baseline = margin * labels + deviations
    scores = baseline + 0.01 * changes
    compared = compare(
        scores, baseline, SpeakerBootstrap(left, right, labels), [EER], Cache(tmp_path)
    ).metrics[EER.name]
    expected = ExpectedIntervals(left, right, labels)
    half_width = expected.half_width_of_difference(supposed or compared.baseline, alike=0.99995)
    assert compared.difference.value == 0
    assert compared.difference.high == -compared.difference.low == pytest.approx(half_width, rel=0.1)
    assert compared.difference.is_expected and compared.difference.is_tie


def test_what_draws_move_one_way_only_is_no_end_of_an_interval(tmp_path: Path) -> None:
    """A mask that changes scores more would meet bounds that one which changes them less does not."""
    speakers = np.repeat(np.arange(20), 4)
    left, right = (speakers[side] for side in np.triu_indices(len(speakers), 1))
    labels = left == right
    for seed in range(5):
        deviations, changes = np.random.default_rng(seed).standard_normal((2, len(labels)))
        baseline = 4.0 * labels + deviations
        found = (
            compare(
                baseline + 1e-3 * changes,
                baseline,
                SpeakerBootstrap(left, right, labels),
                [EER],
                Cache(tmp_path),
            )
            .metrics[EER.name]
            .difference
        )
        assert found.low < min(found.value, 0) <= max(found.value, 0) < found.high


def test_a_difference_is_that_of_its_draws() -> None:
    """Of 999, from -8 to 990, nine are no more than zero."""
    found = difference(500.0, np.arange(-8.0, 991.0), np.zeros(999))
    assert (found.low, found.high) == pytest.approx((16.95, 965.05)), "the 2.5th and 97.5th percentile"
    assert found.p == pytest.approx(2 * (9 + 1) / (999 + 1))


def test_an_interval_is_that_of_students_t_on_a_logarithmic_axis() -> None:
    """With eleven degrees of freedom, of which the 97.5th percentile is 2.201, and a deviation of 1."""
    interval = bootstrap().interval(5.0, np.array([4.0, 5.0, 6.0]))
    factor = np.exp(2.201 * np.sqrt(12 / 11) / 5)
    assert (interval.low, interval.high) == pytest.approx((5 / factor, 5 * factor), rel=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"scores": 1},
        {"left": SPEAKERS[LEFT][::-1]},
        {"right": SPEAKERS[RIGHT][::-1]},
        {"labels": ~LABELS},
        {"num_replicates": 21},
        {"seed": 1},
        {"p_target": 0.01},
        {"version": schema_versions.REPLICATES + 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_determines_draws_determines_their_key(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draws(
        scores: int = 0,
        p_target: float = 0.05,
        version: int = schema_versions.REPLICATES,
        **of_bootstrap: Any,
    ) -> str:
        monkeypatch.setattr(schema_versions, "REPLICATES", version)
        scored, drawn = scores_of(2.0, seed=scores), replace(bootstrap(20), **of_bootstrap)
        return compare(scored, scored, drawn, error_metrics([p_target]), Cache(tmp_path)).draws

    assert draws(**change) != draws() == draws()


def test_draws_are_the_same_for_every_system_and_seed() -> None:
    scores = scores_of(2.0, seed=0)
    [first], [second] = (bootstrap().replicates(scores, [EER]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert difference(0.0, first, second).high == 0


def test_more_draws_begin_with_the_same_ones() -> None:
    """However many there are, and whatever there is room for at once."""
    scores = scores_of(2.0, seed=0)
    [few], [many] = (bootstrap(num).replicates(scores, [EER]) for num in (10, 300))
    np.testing.assert_array_equal(few, many[:10])
    (_, [[few]]), (_, [[many]]) = (
        (means, drawn[:1]) for means, drawn in (bootstrap(num).means([scores]) for num in (10, 300))
    )
    np.testing.assert_allclose(few, many[:10])


def test_draws_without_trials_of_a_kind_do_not_count() -> None:
    """With three speakers, every ninth draw is of one only."""
    scores = scores_of(0.0, seed=0)
    chosen = (SPEAKERS[LEFT] < 3) & (SPEAKERS[RIGHT] < 3)
    drawn = SpeakerBootstrap(SPEAKERS[LEFT][chosen], SPEAKERS[RIGHT][chosen], LABELS[chosen], 200)
    [replicates] = drawn.replicates(scores[chosen], [EER])
    assert 0 < np.isnan(replicates).sum() < 200
    assert np.isfinite(drawn.interval(eer(scores[chosen], LABELS[chosen]), replicates).high)


@pytest.mark.parametrize("num_speakers", [1, 2])
def test_a_list_of_too_few_speakers_is_refused(num_speakers: int) -> None:
    speakers = np.arange(3, dtype=np.int32) % num_speakers
    with pytest.raises(UserError, match=f"3 speakers or more, and the trials are of {num_speakers}"):
        SpeakerBootstrap(speakers, speakers, np.ones(3, bool))


def test_no_interval_ends_beyond_what_can_be() -> None:
    bootstrap = SpeakerBootstrap(SPEAKERS[LEFT], SPEAKERS[RIGHT], LABELS)
    replicates = np.random.default_rng(0).uniform(0.9, 1, 1000)
    assert bootstrap.interval(0.99, replicates).high > 1
    assert bootstrap.interval(0.99, replicates, largest=1.0).high == 1
