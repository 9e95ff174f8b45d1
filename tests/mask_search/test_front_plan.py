"""What is measured for a front, on a made-up network whose every mask is known."""

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution

from speakerquant.corpus.trials import Trials
from speakerquant.errors import UserError
from speakerquant.forecasting.additive_number import Ranks
from speakerquant.forecasting.forecast import MeasuredList
from speakerquant.mask_search import candidates as candidates_module
from speakerquant.mask_search.candidates import candidates
from speakerquant.mask_search.choices import Choices
from speakerquant.mask_search.front_plan import FrontPlan
from speakerquant.mask_search.hypervolume import expected_gain, hypervolume
from speakerquant.search.front import front_of
from speakerquant.search.goals import Goals
from speakerquant.search.history import History
from speakerquant.search.ledger import Claim, Ledger
from speakerquant.search.search_loop import Budget, Failed, Outcome, Search, Succeeded
from speakerquant.search.space import Space
from speakerquant.search.storage import open_storage
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.error_rates import ScoredTrials, eer, threshold_at
from speakerquant.statistics.scores import cosine_scores
from speakerquant.statistics.uncertainty import SpeakerBootstrap, difference

UNITS, SPEAKERS, RECORDINGS, DIM = 5, 20, 8, 16
SPACE = Space({f"mask.u{unit}": CategoricalDistribution(("int8", "int4", "int2")) for unit in range(UNITS)})
CHOICES = Choices(SPACE, {})
OBJECTIVES = {"engine_size_bytes": "minimize", "delta_eer": "minimize"}
FIRST = 1 + UNITS + 2
"""Masks that predict the others: the base, each unit alone, and all."""
EVERY = list(itertools.product(range(3), repeat=UNITS))


class MadeUp:
    """A network whose units change embeddings, more so with fewer bits, and two of them together."""

    def __init__(self, without_effect: Sequence[int] = (), noise: float = 0.6) -> None:
        generator = np.random.default_rng(3)
        speakers = np.repeat(np.arange(SPEAKERS), RECORDINGS)
        num = len(speakers)
        self._base = generator.standard_normal((SPEAKERS, DIM))[speakers]
        self._base += noise * generator.standard_normal((num, DIM))
        sizes = 0.03 * np.arange(1, UNITS + 1)[:, None, None]
        self._changes = sizes * generator.standard_normal((UNITS, num, DIM))
        self._changes[[*without_effect]] = 0
        left, right = np.triu_indices(num, 1)
        self.trials = Trials(
            tuple(map(str, range(num))),
            left.astype(np.int32),
            right.astype(np.int32),
            speakers[left] == speakers[right],
        )
        self._bootstrap = SpeakerBootstrap(speakers[left], speakers[right], self.trials.labels, 50)
        baseline = self._scores((0,) * UNITS)
        self.baseline_eer = eer(baseline, self.trials.labels)
        self._threshold = threshold_at(ScoredTrials.of(baseline, self.trials.labels))
        self._draws = self._bootstrap.replicates(baseline, [EER])[0]
        self._known: dict[Ranks, dict[str, Any]] = {}

    def embeddings(self, ranks: Ranks) -> Any:
        steps = np.array(ranks)[:, None, None] / 2
        together = 0.5 * steps[0] * steps[1] * self._changes[0] * self._changes[1]
        return (self._base + (steps * self._changes).sum(axis=0) + together).astype(np.float32)

    def _scores(self, ranks: Ranks) -> Any:
        return cosine_scores(self.embeddings(ranks), self.trials.left, self.trials.right)

    def result(self, ranks: Ranks) -> dict[str, Any]:
        """What an evaluation of the mask finds."""
        if ranks not in self._known:
            self._known[ranks] = {
                **self.numbers_of(self.embeddings(ranks)),
                "engine_size_bytes": size(ranks),
                "size_ratio": size(ranks) / size((0,) * UNITS),
                "latency_ms_p50": 20.0 + 5 * np.count_nonzero(ranks),
                "ranks": ranks,
            }
        return self._known[ranks]

    def numbers_of(self, embeddings: Any, names: Collection[str] = ()) -> dict[str, float]:
        scores, labels = cosine_scores(embeddings, self.trials.left, self.trials.right), self.trials.labels
        rate = eer(scores, labels)
        loss = rate - self.baseline_eer
        [draws] = self._bootstrap.replicates(scores, [EER])
        return {
            "eer": rate,
            "delta_eer": loss,
            "delta_eer_high": difference(loss, draws, self._draws).high,
            "swap.frr_at_eer": 100 * float((scores[labels] < self._threshold).mean()),
        }

    def points(self, masks: Sequence[Ranks] = EVERY) -> Any:
        return np.array([[size(ranks), eer(self._scores(ranks), self.trials.labels)] for ranks in masks])


def size(ranks: Ranks) -> int:
    return 10_000_000 - sum(300_000 * (3 + unit) * rank for unit, rank in enumerate(ranks)) // 2


@pytest.fixture(scope="module")
def made_up() -> MadeUp:
    return MadeUp()


Find = Callable[..., History]


@pytest.fixture(scope="module")
def find(made_up: MadeUp) -> Find:
    """Searches with a plan, and without a sampler."""

    def run(
        constraints: dict[str, float] | None = None,
        n_trials: int = 60,
        objectives: Sequence[str] = tuple(OBJECTIVES),
        broken: Sequence[Ranks] = (),
        ledger: Ledger | None = None,
        made_up: MadeUp = made_up,
        n_jobs: int = 1,
    ) -> History:
        goals = Goals({name: OBJECTIVES[name] for name in objectives}, constraints or {})

        def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
            ranks = [CHOICES.ranks_of(claim.point) for claim in claims]
            return [Failed("broken") if each in broken else Succeeded(made_up.result(each)) for each in ranks]

        plan = FrontPlan(
            *(CHOICES, goals, MeasuredList(made_up.trials, made_up.baseline_eer, made_up.numbers_of)),
            lambda result: made_up.embeddings(tuple(result["ranks"])),
        )
        ledger = ledger or Ledger(open_storage(None), "front", SPACE, goals, {})
        return Search(ledger, Budget(n_trials, n_jobs), evaluate, first_points=plan).run()

    return run


@pytest.fixture(scope="module")
def whole(find: Find) -> list[Ranks]:
    """What is measured without constraints."""
    return levels_in(find())


def levels_in(history: History) -> list[Ranks]:
    return [CHOICES.ranks_of(trial.params) for trial in history.completed]


def test_the_whole_front_is_found_with_a_handful_of_masks(made_up: MadeUp, whole: list[Ranks]) -> None:
    assert len(whole) <= 40, "of 243"
    every = made_up.points()
    reference = every.max(axis=0)
    assert hypervolume(made_up.points(whole), reference) >= 0.99 * hypervolume(every, reference)


def test_more_than_four_jobs_build_no_masks_in_vain(find: Find) -> None:
    assert levels_in(find(n_jobs=16)) == levels_in(find(n_jobs=4))


def test_a_list_without_an_error_is_done_with_the_first_masks(find: Find) -> None:
    made_up = MadeUp(noise=0.05)
    found = levels_in(find(made_up=made_up))
    assert {made_up.result(ranks)["eer"] for ranks in found} == {0.0}
    assert len(found) == FIRST


def test_a_search_that_was_stopped_goes_on_to_the_same_front(find: Find, whole: list[Ranks]) -> None:
    goals = Goals(OBJECTIVES)
    ledger = Ledger(open_storage(None), "stopped", SPACE, goals, {})
    for n_trials in (3, 14, 16, 60):
        resumed = levels_in(find(n_trials=n_trials, ledger=ledger))
    assert resumed == whole


def test_the_smallest_mask_that_is_shown_to_lose_little_is_recommended(made_up: MadeUp, find: Find) -> None:
    bound = 0.5
    history = find({"delta_eer_high": bound})
    recommended = front_of(history, Goals(OBJECTIVES, {"delta_eer_high": bound})).recommended
    allowed = [each for each in map(made_up.result, EVERY) if each["delta_eer_high"] <= bound]
    smallest = min(allowed, key=lambda each: each["engine_size_bytes"])
    assert recommended is not None
    assert recommended.result["engine_size_bytes"] <= 1.02 * smallest["engine_size_bytes"]


def test_the_smallest_mask_within_a_bound_of_a_swap_is_built(
    made_up: MadeUp, find: Find, whole: list[Ranks]
) -> None:
    """Such a mask need not be on the front of sizes and EERs, which is all that is built without bounds."""
    name, bound = "swap.frr_at_eer", 3.6

    def smallest(masks: Sequence[Ranks]) -> int:
        return min(size(ranks) for ranks in masks if made_up.result(ranks)[name] <= bound)

    history = find({name: bound})
    assert smallest(levels_in(history)) == smallest(EVERY) < smallest(whole)
    assert len(levels_in(history)) <= len(whole) + 5


def test_a_unit_that_changes_nothing_hides_no_smaller_mask(find: Find) -> None:
    name, bound = "swap.frr_at_eer", 3.6
    made_up = MadeUp(without_effect=[1])
    history = find({name: bound}, made_up=made_up)
    smallest, found = (
        min(size(ranks) for ranks in masks if made_up.result(ranks)[name] <= bound)
        for masks in (EVERY, levels_in(history))
    )
    assert found == smallest


def test_what_bounds_are_on_is_predicted_of_measured_masks_too(made_up: MadeUp, find: Find) -> None:
    name = "swap.frr_at_eer"
    goals = Goals(OBJECTIVES, {name: 3.6})
    plan = FrontPlan(
        *(CHOICES, goals, MeasuredList(made_up.trials, made_up.baseline_eer, made_up.numbers_of)),
        lambda result: made_up.embeddings(tuple(result["ranks"])),
    )
    history = find({name: 3.6})
    predictions = plan.predictions(history)
    assert len(predictions) == sum(np.count_nonzero(ranks) > 1 for ranks in levels_in(history))
    for trial in history.completed:
        if said := predictions.get(trial.number):
            assert said[name] == pytest.approx(trial.user_attrs["result"][name], abs=0.6)
            assert said["delta_eer"] == pytest.approx(trial.user_attrs["result"]["delta_eer"], abs=0.6)


def test_within_a_size_nothing_larger_is_built_but_what_predicts(find: Find) -> None:
    for trial in find({"size_ratio": 0.6}).completed[FIRST:]:
        assert trial.user_attrs["result"]["size_ratio"] <= 0.61


@pytest.mark.parametrize(
    ("budget", "objectives"),
    [
        ({"size_ratio": 0.6}, [*reversed(OBJECTIVES)]),
        ({"engine_size_bytes": 0.6 * size((0,) * UNITS)}, [*OBJECTIVES]),  # of which the loss alone is free
        ({"latency_ms_p50": 5.0}, [*reversed(OBJECTIVES)]),  # that no mask meets, and nothing predicts
        ({"latency_ms_p50": 5.0}, [*OBJECTIVES]),
    ],
)
def test_no_smaller_masks_are_built_for_a_bound_that_is_met(
    find: Find, budget: dict[str, float], objectives: Sequence[str]
) -> None:
    bounded = find({**budget, "delta_eer_high": 100.0}, objectives=objectives)
    assert levels_in(bounded) == levels_in(find(budget, objectives=objectives))


def test_a_budget_below_the_smallest_mask_is_refused(find: Find) -> None:
    with pytest.raises(UserError, match=r"size_ratio <= 0.1: no mask comes below 0.\d+"):
        find({"size_ratio": 0.1})


def test_what_cannot_be_built_is_left_out(find: Find) -> None:
    history = find(broken=[(0, 0, 2, 0, 0), (2,) * UNITS])
    assert all(ranks[2] != 2 for ranks in levels_in(history))
    assert len(history.completed) > 12
    assert len(history.failed) == 2
    with pytest.raises(UserError, match="cannot be predicted: broken"):
        find(broken=[(0,) * UNITS])


def test_a_precision_that_one_unit_cannot_have_is_left_to_the_others(find: Find) -> None:
    history = find(broken=[ranks for ranks in EVERY if ranks[1] == 1])
    assert [CHOICES.ranks_of(trial.params) for trial in history.failed] == [(1,) * UNITS, (0, 1, 0, 0, 0)]
    measured = np.array(levels_in(history))
    assert not (measured[:, 1] == 1).any()
    assert (measured == 1).sum(axis=1).max() > 1


def test_many_masks_are_sought_locally(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates_module, "EVALUATED", 100)

    def objectives(masks: Any) -> Any:
        return made_up.points([tuple(mask) for mask in masks.tolist()])

    found = candidates([3] * UNITS, objectives, [(0,) * UNITS, (2,) * UNITS])
    assert len(found) < len(EVERY)
    every = made_up.points()
    reference = every.max(axis=0)
    all_of_them = hypervolume(every, reference)
    assert hypervolume(objectives(found), reference) > 0.99 * all_of_them


def test_where_no_neighbour_is_better_a_local_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a list whose EERs have few steps."""
    monkeypatch.setattr(candidates_module, "EVALUATED", 100)

    def alike(masks: Any) -> Any:
        return np.array([[size(tuple(mask)), 0.0] for mask in masks.tolist()])

    assert 100 <= len(candidates([3] * UNITS, alike, [(0,) * UNITS, (2,) * UNITS])) < len(EVERY)


def test_expected_gains_without_doubt_are_gains() -> None:
    generator = np.random.default_rng(0)
    points, new, reference = generator.random((8, 2)), generator.random((50, 2)), np.array([1.0, 1.0])
    gains = expected_gain(points, reference, new[:, 0], new[:, 1], np.full(50, 1e-12))
    before = hypervolume(points, reference)
    assert gains == pytest.approx(
        [hypervolume(np.vstack([points, each]), reference) - before for each in new], abs=1e-9
    )
    doubtful = expected_gain(points, reference, new[:, 0], new[:, 1], np.full(50, 0.1))
    assert (doubtful > gains - 1e-12).all()
