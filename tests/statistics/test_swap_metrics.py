"""What changes for a product when another system takes the place of the one that it runs."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerquant.statistics.error_rates import ScoredTrials, eer
from speakerquant.statistics.score_calibration import ScoreCalibration, SpeakerFolds, costs_in_bits, min_cllr
from speakerquant.statistics.swap_metrics import (
    FEWEST_ERRORS,
    FormerSystem,
    operating_points,
    swap_number,
    swap_numbers,
)
from speakerquant.statistics.uncertainty import Array, SpeakerBootstrap

NUM_SPEAKERS = 30
LABELS = np.repeat([True, False], [300, 2000])
POINTS = ("eer", "far_1", "far_2.5")


@pytest.fixture(scope="module")
def bootstrap() -> SpeakerBootstrap:
    generator = np.random.default_rng(0)
    left = generator.integers(NUM_SPEAKERS, size=len(LABELS))
    right = np.where(LABELS, left, (left + generator.integers(1, NUM_SPEAKERS, len(LABELS))) % NUM_SPEAKERS)
    return SpeakerBootstrap(left, right, LABELS, num_replicates=50)


@pytest.fixture(scope="module")
def scores() -> Array:
    return np.random.default_rng(1).normal(size=len(LABELS)) + 2.5 * LABELS


@pytest.fixture(scope="module")
def former(scores: Array, bootstrap: SpeakerBootstrap) -> FormerSystem:
    points = operating_points(ScoredTrials.of(scores, LABELS), [1, 2.5])
    folds = SpeakerFolds.of(bootstrap.left, bootstrap.right, LABELS)
    return FormerSystem(scores, points, ScoreCalibration.fitted(scores, LABELS), 0.05, bootstrap, folds)


def rates(scores: Array, threshold: float) -> tuple[float, float]:
    accepted = scores >= threshold
    return 100 * float((~accepted[LABELS]).mean()), 100 * float(accepted[~LABELS].mean())


@pytest.mark.parametrize("percent", [0.7, 1.4, 2.9, 14.5])
def test_as_many_are_accepted_as_may_be(percent: float) -> None:
    """Rounding makes 0.7 / 100 a little less than 14 of 2000."""
    others = np.arange(2000.0)
    labels = np.arange(2100) >= len(others)
    trials = ScoredTrials.of(np.concatenate([others, others[:100]]), labels)
    [_, point] = operating_points(trials, [percent])
    assert np.count_nonzero(others >= point.threshold) == round(20 * percent)


def test_thresholds_are_those_of_the_rates(scores: Array, former: FormerSystem) -> None:
    assert tuple(point.name for point in former.points) == POINTS
    at_eer, *others = (point.threshold for point in former.points)
    assert rates(scores, at_eer) == pytest.approx([eer(scores, LABELS)] * 2, abs=0.4)
    for threshold, percent in zip(others, (1, 2.5), strict=True):
        next_lower = scores[scores < threshold].max()
        assert rates(scores, threshold)[1] <= percent < rates(scores, next_lower)[1]


def test_rates_that_a_list_does_not_show_have_no_threshold(scores: Array) -> None:
    least = 100 * FEWEST_ERRORS / (~LABELS).sum()
    points = operating_points(ScoredTrials.of(scores, LABELS), [least, 0.9 * least])
    assert [point.name for point in points] == ["eer", f"far_{least:g}"]


def test_the_former_system_in_its_own_place_changes_nothing(scores: Array, former: FormerSystem) -> None:
    numbers = swap_numbers(scores, former, voiceprints_kept=False)
    changes = [name for name in numbers if name.startswith(("delta", "newly", "flips")) or "shift" in name]
    assert {numbers[name] for name in changes} == {0.0}
    assert {f"{name}_at_{point}" for name in ("flips", "newly_rejected") for point in POINTS} < {*changes}
    for name in (
        "cllr",
        "refitted_cllr",
        *(f"{rate}_at_{point}" for rate in ("frr", "far", "dcf") for point in POINTS),
    ):
        assert numbers[name] == numbers[f"baseline_{name}"]


def test_numbers_are_those_counted_by_hand(scores: Array, former: FormerSystem) -> None:
    moved = scores + 0.3
    moved[:5] -= 3
    numbers = swap_numbers(moved, former, voiceprints_kept=False)
    for point in former.points:
        frr, far = rates(moved, point.threshold)
        assert numbers[f"frr_at_{point.name}"] == pytest.approx(frr)
        assert numbers[f"far_at_{point.name}"] == pytest.approx(far)
        assert numbers[f"dcf_at_{point.name}"] == pytest.approx((0.05 * frr + 0.95 * far) / 5)
        before, now = scores >= point.threshold, moved >= point.threshold
        assert numbers[f"flips_at_{point.name}"] == pytest.approx(100 * (before != now).mean())
        rejected, accepted = (before & ~now)[LABELS].mean(), (now & ~before)[~LABELS].mean()
        assert numbers[f"newly_rejected_at_{point.name}"] == pytest.approx(100 * rejected)
        assert numbers[f"newly_accepted_at_{point.name}"] == pytest.approx(100 * accepted)
    assert numbers["nontarget_shift"] == pytest.approx(0.3 / scores[~LABELS].std())
    assert numbers["target_shift"] == pytest.approx((0.3 - 15 / LABELS.sum()) / scores[LABELS].std())


def test_draws_are_those_of_the_other_metrics(scores: Array, bootstrap: SpeakerBootstrap) -> None:
    drawn = np.random.default_rng(bootstrap.seed).multinomial(
        NUM_SPEAKERS, np.full(NUM_SPEAKERS, 1 / NUM_SPEAKERS), size=bootstrap.num_replicates
    )
    left, right = drawn[:, bootstrap.left], drawn[:, bootstrap.right]
    weights = np.where(bootstrap.left == bootstrap.right, left, left * right)
    means, drawn_means = bootstrap.means([scores, scores > 1])
    for kind, of_list, of_draws in zip((~LABELS, LABELS), means, drawn_means, strict=True):
        for values, mean, drawn_mean in zip((scores, scores > 1), of_list, of_draws, strict=True):
            assert mean == values[kind].mean()
            assert np.allclose(drawn_mean, weights[:, kind] @ values[kind] / weights[:, kind].sum(axis=1))


def test_a_loss_that_all_speakers_show_is_told_from_none(scores: Array, former: FormerSystem) -> None:
    noise = 0.01 * np.random.default_rng(2).normal(size=len(scores))
    tied, lost = (
        swap_numbers(each, former, voiceprints_kept=True) for each in (scores + noise, scores - 0.5)
    )
    name = "delta_voiceprints_frr_at_eer"
    assert tied[f"{name}_low"] <= 0 <= tied[f"{name}_high"]
    assert 0 < lost[f"{name}_low"] < lost[name] < lost[f"{name}_high"]


def test_intervals_of_high_rates_end_at_the_most_that_can_be(scores: Array, former: FormerSystem) -> None:
    """Where all decisions but one of each kind are wrong."""
    moved = np.where(LABELS, scores - 20, scores + 20)
    moved[[0, -1]] = scores.max(), scores.min()
    numbers = swap_numbers(moved, former, voiceprints_kept=False)
    for name, largest in (("frr", 100), ("far", 100), ("dcf", 1 / 0.05)):
        for point in POINTS:
            assert numbers[f"{name}_at_{point}"] < numbers[f"{name}_at_{point}_high"] == largest


@pytest.mark.parametrize("voiceprints_kept", [False, True])
def test_every_number_is_described(scores: Array, former: FormerSystem, voiceprints_kept: bool) -> None:
    for name in swap_numbers(scores, former, voiceprints_kept=voiceprints_kept):
        described = swap_number(name)
        assert described is not None and described.name == name and described.heading
    assert swap_number("eer") is swap_number("frr_at_far_x") is None


def test_cllr_is_that_of_its_definition(scores: Array, former: FormerSystem) -> None:
    """Summed trial by trial, as Brümmer and du Preez define it."""
    ratios = former.calibration.ratios(scores)
    costs: dict[bool, list[float]] = {True: [], False: []}
    for ratio, is_target in zip(ratios.tolist(), LABELS.tolist(), strict=True):
        costs[is_target].append(math.log2(1 + math.exp(-ratio if is_target else ratio)))
    defined = sum(math.fsum(each) / len(each) for each in costs.values()) / 2
    assert former.own["cllr"][0] == pytest.approx(defined, abs=1e-9)


@pytest.mark.parametrize("gap", [0.01, 1.0])
def test_ratios_of_a_list_without_an_error_stay_within_what_it_can_show(gap: float) -> None:
    labels = np.arange(40) < 7
    scores = np.random.default_rng(0).uniform(size=40) + (1 + gap) * labels
    ratios = ScoreCalibration.fitted(scores, labels).ratios(scores)
    assert ratios[labels].mean() > 1 and ratios[~labels].mean() < -1
    assert np.abs(ratios).max() < 3 * np.log(40)


@pytest.mark.parametrize("number", [1, 7])
def test_a_list_without_an_error_shows_ratios_of_its_number_of_trials(number: int) -> None:
    """As if one more trial of each kind had been mistaken: Platt's targets."""
    labels = np.repeat([True, False], number)
    ratios = ScoreCalibration.fitted(np.where(labels, 3.0, 2.0), labels).ratios(np.array([2.0, 3.0]))
    assert ratios == pytest.approx([-np.log(number + 1), np.log(number + 1)], rel=1e-4)


@pytest.mark.parametrize(("scale", "shift"), [(1e-8, 0.0), (1e8, 0.0), (3e-5, 0.9999)])
def test_ratios_are_the_same_of_scores_of_any_scale_around_any_value(
    scores: Array, scale: float, shift: float
) -> None:
    both = scores, scale * scores + shift
    plain, other = (ScoreCalibration.fitted(each, LABELS).ratios(each) for each in both)
    np.testing.assert_allclose(other, plain, atol=1e-6)


def test_no_other_affine_map_costs_less(former: FormerSystem) -> None:
    fitted, least = former.calibration, former.own["cllr"][0]
    for slope, offset in ((1.01, 0), (0.99, 0), (1, 0.03), (1, -0.03)):
        other = ScoreCalibration(fitted.slope * slope, fitted.offset + offset)
        assert replace(former, calibration=other).own["cllr"][0] > least


def test_a_calibration_fitted_anew_takes_back_any_affine_change(scores: Array, former: FormerSystem) -> None:
    numbers = swap_numbers(2 * scores + 3, former, voiceprints_kept=False)
    assert numbers["refitted_cllr"] == pytest.approx(numbers["baseline_refitted_cllr"], abs=1e-6)
    assert numbers["delta_refitted_cllr_high"] == pytest.approx(0, abs=1e-6)
    assert numbers["cllr"] > numbers["refitted_cllr"] + 1, "FP32's calibration does not fit such scores"
    assert numbers["baseline_refitted_cllr"] == pytest.approx(numbers["baseline_cllr"], rel=0.03)


def test_no_trial_is_judged_by_a_calibration_that_has_seen_its_speakers(
    scores: Array, bootstrap: SpeakerBootstrap
) -> None:
    folds = SpeakerFolds.of(bootstrap.left, bootstrap.right, LABELS)
    assert folds is not None
    ratios = folds.ratios(scores, LABELS)
    for judged in (0, len(LABELS) - 1):  # of one speaker, and of two
        speakers = bootstrap.left[judged], bootstrap.right[judged]
        of_them = np.isin(bootstrap.left, speakers) | np.isin(bootstrap.right, speakers)
        others = np.arange(len(LABELS)) != judged
        moved = np.where(of_them & others, scores + 1, scores)
        changed = folds.ratios(moved, LABELS)
        assert changed[judged] == ratios[judged]
        assert (changed != ratios).sum() > of_them.sum(), "those of other speakers have seen it"


@pytest.mark.parametrize(
    ("speakers", "kept"), [(19, 300), (NUM_SPEAKERS, 100)], ids=["few speakers", "few target trials"]
)
def test_a_list_too_short_for_folds_has_no_calibration_fitted_anew(
    scores: Array, former: FormerSystem, speakers: int, kept: int
) -> None:
    left, right = former.bootstrap.left % speakers, former.bootstrap.right % speakers
    chosen = ~LABELS | (np.arange(len(LABELS)) < kept)
    short = SpeakerBootstrap(left[chosen], right[chosen], LABELS[chosen], num_replicates=50)
    folds = SpeakerFolds.of(short.left, short.right, short.labels)
    assert folds is None
    on_it = replace(former, scores=scores[chosen], bootstrap=short, folds=folds)
    numbers = swap_numbers(scores[chosen] + 0.1, on_it, voiceprints_kept=False)
    assert "cllr" in numbers and not any("refitted" in name for name in numbers)


@given(
    st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=2, max_size=60).filter(
        lambda trials: len({is_target for _, is_target in trials}) == 2
    )
)
def test_min_cllr_is_at_most_any_cllr(trials: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in trials], np.float64)
    labels = np.array([is_target for _, is_target in trials])
    least = min_cllr(scores, labels)
    costs = costs_in_bits(scores, labels)
    assert 0 <= least <= (costs[labels].mean() + costs[~labels].mean()) / 2 + 1e-12
    assert least <= 1 + 1e-12, "what says nothing costs one bit"
    assert least == pytest.approx(min_cllr(np.exp(scores / 10), labels)), "the order is all that counts"
