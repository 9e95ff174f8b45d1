"""What a user relies on of a search, on every storage."""

import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from search import example
from speakerquant.errors import UserError
from speakerquant.report.search_report import SearchReport
from speakerquant.search import owner
from speakerquant.search.application import Observer, SearchApplication
from speakerquant.search.goals import Goals
from speakerquant.search.history import (
    FAILURE,
    INTERRUPTED,
    OWNER,
    REPEAT_OF,
    SOURCE,
    WITHDRAWN,
    History,
)
from speakerquant.search.ledger import MAX_RETRIES, Claim, Ledger
from speakerquant.search.owner import Owner
from speakerquant.search.search_loop import (
    Budget,
    Failed,
    Interrupted,
    Outcome,
    Search,
    Succeeded,
    Unavailable,
)
from speakerquant.search.session import Session
from speakerquant.search.space import Point, Space
from speakerquant.search.storage import open_storage
from speakerquant.search.view import PlainView

pytestmark = pytest.mark.slow

SMALL = Space({"mask.a": CategoricalDistribution(("fp32", "int8")), "b": CategoricalDistribution((1, 2, 3))})
ONE_GOAL = Goals({"cost": "minimize"})


def small_ledger(storage: BaseStorage, name: str, retries: float = MAX_RETRIES) -> Ledger:
    return Ledger(storage, name, SMALL, ONE_GOAL, {}, retries)


def cost(claims: Sequence[Claim]) -> list[Outcome]:
    return [Succeeded({"cost": 1.0 + int(claim.point["b"] or 0)}) for claim in claims]


def search(ledger: Ledger, n_trials: int, evaluate: Any = cost, **options: Any) -> History:
    options = {"make_sampler": example.make_sampler, **options}
    budget = Budget(n_trials, options.pop("n_jobs", 1), options.pop("max_failure_rate", 1.0))
    return Search(ledger, budget, evaluate, **options).run()


def run_example(storage: BaseStorage, name: str, n_trials: int, **options: Any) -> History:
    return search(
        example.ledger(storage, name),
        n_trials,
        options.pop("evaluate", example.evaluate),
        first_points=example.warm_start(),
        **options,
    )


@pytest.mark.parametrize(
    "make_sampler",
    [
        pytest.param(lambda seed: TPESampler(seed=seed), id="tpe"),
        pytest.param(lambda seed: NSGAIISampler(seed=seed, population_size=4), id="nsgaii"),
        pytest.param(lambda seed: RandomSampler(seed=seed), id="random"),
    ],
)
def test_no_point_is_evaluated_twice_and_repeats_cost_nothing(
    make_sampler: Callable[[int], BaseSampler],
) -> None:
    evaluated: list[str] = []

    def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
        evaluated.extend(example.SPACE.key(claim.point) for claim in claims)
        return example.evaluate(claims)

    history = run_example(InMemoryStorage(), "study", 30, evaluate=evaluate, make_sampler=make_sampler)
    assert len(history.completed) == len(set(evaluated)) == len(evaluated) == 30
    repeats = [trial for trial in history.trials if REPEAT_OF in trial.user_attrs]
    assert repeats
    for trial in repeats:
        original = history.trials[trial.user_attrs[REPEAT_OF]]
        assert (trial.values, trial.params) == (original.values, original.params)
        assert trial.constraints == original.constraints


def test_the_whole_of_a_small_space_is_evaluated_and_then_the_search_ends(
    storage: BaseStorage, study_name: str
) -> None:
    history = search(small_ledger(storage, study_name), 100)
    assert len(history.completed) == SMALL.size == 6


def test_warm_start_comes_first_in_the_order_of_the_singles(storage: BaseStorage, study_name: str) -> None:
    history = run_example(storage, study_name, 16)
    masks = [
        {name.removeprefix("mask.") for name, precision in trial.params.items() if precision == "int8"}
        for trial in history.completed
    ]
    units = example.UNITS
    assert masks[:9] == [set(), set(units), *({unit} for unit in units)]
    # Loss and size, each scaled to its range over the units: the fifth saves most for little, and so on.
    order = ["fifth", "second", "sixth", "seventh", "third", "first", "fourth"]
    assert masks[9:14] == [set(order[:count]) for count in range(2, 7)]
    assert [trial.user_attrs[SOURCE] for trial in history.completed[13:]] == ["first", "sampler", "sampler"]


def test_the_same_search_again_goes_on_where_it_ended(storage: BaseStorage, study_name: str) -> None:
    first = run_example(storage, study_name, 10)
    second = run_example(storage, study_name, 16)
    assert len(second.completed) == 16
    assert [trial.number for trial in second.completed[:10]] == [trial.number for trial in first.completed]
    assert len(run_example(storage, study_name, 16).trials) == len(second.trials)


def test_batches_hold_as_many_points_as_there_are_jobs(storage: BaseStorage, study_name: str) -> None:
    batches: list[int] = []

    def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
        batches.append(len(claims))
        return example.evaluate(claims)

    history = run_example(storage, study_name, 16, evaluate=evaluate, n_jobs=4)
    assert len(history.completed) == sum(batches) == 16
    assert batches == [4, 4, 1, 4, 3], "the greedy order has to wait for all of the first nine"


def test_a_failure_is_recorded_with_its_reason_and_the_search_goes_on(
    storage: BaseStorage, study_name: str
) -> None:
    def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
        broken = claims[0].point["b"] == 2
        return [Failed("out of memory")] if broken else cost(claims)

    history = search(small_ledger(storage, study_name), 6, evaluate)
    assert len(history.completed) == 4
    assert [trial.user_attrs[FAILURE] for trial in history.failed] == ["out of memory"] * 2
    assert all(trial.state is TrialState.FAIL for trial in history.failed)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_objective_that_is_not_finite_is_a_failure(
    storage: BaseStorage, study_name: str, value: float
) -> None:
    history = search(small_ledger(storage, study_name), 1, lambda claims: [Succeeded({"cost": value})])
    assert history.failed[0].user_attrs[FAILURE] == f"cost is {value}"


def test_too_many_failures_end_the_search(storage: BaseStorage, study_name: str) -> None:
    ledger = small_ledger(storage, study_name)
    with pytest.raises(UserError, match=r"3 trials failed, more than .*max_failure_rate=0.5 of 4 .* boom"):
        search(ledger, 4, lambda claims: [Failed("boom")], max_failure_rate=0.5)
    assert len(ledger.history().failed) == 3


def test_an_interrupted_point_is_asked_again_but_not_for_ever(storage: BaseStorage, study_name: str) -> None:
    retries = MAX_RETRIES if isinstance(storage, InMemoryStorage) else 3  # others take long for each
    ledger = small_ledger(storage, study_name, retries)
    history = search(ledger, 2, lambda claims: [Interrupted("worker lost")])
    assert len(history.failed) == 2
    assert set(history.interruptions.values()) == {retries}
    assert f"interrupted {retries + 1} times; at last: worker lost" in history.failed[0].user_attrs[FAILURE]


def test_ctrl_c_leaves_no_running_trial_and_the_point_to_be_asked_again(
    storage: BaseStorage, study_name: str
) -> None:
    def interrupt(claims: Sequence[Claim]) -> list[Outcome]:
        raise KeyboardInterrupt

    ledger = small_ledger(storage, study_name)
    with pytest.raises(KeyboardInterrupt):
        search(ledger, 4, interrupt, n_jobs=2)
    history = ledger.history()
    assert not history.running
    assert [trial.user_attrs[INTERRUPTED] for trial in history.trials] == ["the search was stopped"] * 2
    again = [SMALL.key(point) for point in history.to_retry()]
    completed = search(ledger, 4).completed
    assert [SMALL.key(trial.params) for trial in completed[:2]] == again


def test_a_missing_objective_ends_the_search_and_names_what_there_is(
    storage: BaseStorage, study_name: str
) -> None:
    ledger = small_ledger(storage, study_name)
    found = {"eer": 1.0, "seconds": {"build": 2.0}, "engine": "openvino"}
    with pytest.raises(UserError, match=r"objectives.cost: .* it has eer, seconds.build$"):
        search(ledger, 4, lambda claims: [Succeeded(found)])
    assert not ledger.history().running


def test_a_lost_race_is_withdrawn_and_the_winner_evaluates(storage: BaseStorage, study_name: str) -> None:
    first, second = small_ledger(storage, study_name), small_ledger(storage, study_name)
    point = {"mask.a": "int8", "b": 1}
    won = first.claim(point, "test", limit=10)
    assert won is not None
    assert second.claim(point, "test", limit=10) is None
    assert second.claim({"mask.a": "int8", "b": 2}, "test", limit=1) is None, "the last trial is taken"
    trials = first.history().trials
    assert [WITHDRAWN in trial.user_attrs for trial in trials] == [False, True, True]
    assert [trial.state for trial in trials] == [TrialState.RUNNING, TrialState.FAIL, TrialState.FAIL]


def test_a_result_that_comes_after_its_trial_was_given_up_is_dropped(
    storage: BaseStorage, study_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = small_ledger(storage, study_name)
    claim = ledger.claim({"mask.a": "int8", "b": 1}, "test", limit=10)
    assert claim is not None
    ledger.interrupt(claim, "believed dead")
    ledger.complete(claim, {"cost": 1.0})
    assert "given up as dead" in caplog.text
    assert not ledger.history().completed


def test_a_server_that_evaluations_need_ends_the_search_and_fails_no_trial(
    storage: BaseStorage, study_name: str
) -> None:
    def half(claims: Sequence[Claim]) -> list[Outcome]:
        return [*cost(claims[:1]), *(Unavailable("no answer") for _ in claims[1:])]

    ledger = small_ledger(storage, study_name, retries=0)
    with pytest.raises(UserError, match="no answer; the same command goes on"):
        search(ledger, 6, half, n_jobs=2)
    history = ledger.history()
    assert len(history.completed) == 1 and not history.running and not history.failed
    assert len(search(ledger, 6).completed) == 6


def leave_running(record: dict[str, Any], heartbeat: float, storage: BaseStorage, name: str) -> Ledger:
    """A study with a trial that another process has left behind."""
    ledger = small_ledger(storage, name)
    claim = ledger.claim({"mask.a": "int8", "b": 1}, "test", limit=10)
    assert claim is not None
    storage.set_trial_user_attr(claim.trial_id, OWNER, record)
    storage.set_trial_user_attr(claim.trial_id, "heartbeat", heartbeat)
    return ledger


def ended_process() -> dict[str, Any]:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    assert process.pid is not None
    record = Owner(owner._host(), process.pid, time.time()).record()
    process.kill()
    process.join()
    return record


@pytest.mark.parametrize("case", ["ended", "other process of the same id", "other host, silent"])
def test_a_dead_process_is_not_waited_for(storage: BaseStorage, study_name: str, case: str) -> None:
    here = Owner.this_process()
    record = {
        "ended": ended_process,
        "other process of the same id": lambda: Owner(here.host, here.pid, here.started - 60).record(),
        "other host, silent": lambda: Owner("elsewhere", 1, 0.0).record(),
    }[case]()
    ledger = leave_running(record, time.time() - 2 * owner._CLOCKS_DIFFER, storage, study_name)
    history = search(ledger, 6)
    assert len(history.completed) == 6
    assert history.trials[0].state is TrialState.FAIL
    assert history.trials[0].user_attrs[INTERRUPTED] == "its process died without ending the trial"


@pytest.mark.parametrize("clock", [-1800.0, 0.0, 1800.0])
def test_whether_another_host_lives_is_told_whatever_its_clock(
    storage: BaseStorage, study_name: str, clock: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "STALE_SECONDS", 0.1)
    record = Owner("elsewhere", 1, 0.0).record()
    ledger = leave_running(record, time.time() + clock, storage, study_name)
    [trial] = ledger.history().running.values()
    for _ in range(4):  # it lives
        storage.set_trial_user_attr(trial._trial_id, "heartbeat", time.time() + clock)
        ledger.release_dead()
        assert ledger.history().running
        time.sleep(0.05)
    time.sleep(0.1)  # it has died
    ledger.release_dead()
    assert not ledger.history().running


@pytest.mark.parametrize("case", ["here", "other host, heard of"])
def test_a_living_process_keeps_its_trial(storage: BaseStorage, study_name: str, case: str) -> None:
    here = Owner.this_process()
    record = here.record() if case == "here" else Owner("elsewhere", 1, 0.0).record()
    heartbeat = 0.0 if case == "here" else time.time() - owner.STALE_SECONDS / 2
    ledger = leave_running(record, heartbeat, storage, study_name)
    ledger.release_dead()
    assert len(ledger.history().running) == 1


def test_running_trials_are_kept_fresh(
    storage: BaseStorage, study_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speakerquant.search.ledger.HEARTBEAT_SECONDS", 0.05)
    ledger = small_ledger(storage, study_name)
    ledger.claim({"mask.a": "int8", "b": 1}, "test", limit=10)
    before = ledger.history().trials[0].user_attrs["heartbeat"]
    with ledger.heartbeat():
        time.sleep(0.4)
    assert ledger.history().trials[0].user_attrs["heartbeat"] > before


def test_a_study_of_something_else_is_refused_with_what_differs(
    storage: BaseStorage, study_name: str
) -> None:
    Ledger(storage, study_name, SMALL, ONE_GOAL, {"checkpoint": "a", "engine": "openvino"})
    with pytest.raises(UserError, match=r"another checkpoint \(checkpoint: a there, b here\)"):
        Ledger(storage, study_name, SMALL, ONE_GOAL, {"checkpoint": "b", "engine": "openvino"})


def test_a_study_whose_creator_died_at_once_is_taken_over(
    storage: BaseStorage, study_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speakerquant.search.ledger._CREATION_SECONDS", 0.2)
    storage.create_new_study(ONE_GOAL.directions, study_name)
    assert len(search(small_ledger(storage, study_name), 3).completed) == 3


def test_a_number_is_found_although_another_group_begins_as_its_own() -> None:
    result = {"groups": {"snr 3": {"delta_eer": 0.1}, "snr 3.5": {"delta_eer": 0.9}}}
    goals = Goals({"groups.snr 3.5.delta_eer": "minimize", "groups.snr 3.delta_eer": "minimize"}, {})
    assert [*goals.read(result).objectives.values()] == [0.9, 0.1]


def test_the_same_seed_finds_the_same_points() -> None:
    histories = [run_example(InMemoryStorage(), "study", 18, seed=seed) for seed in (3, 3, 4)]
    first, second, third = ([trial.params for trial in history.completed] for history in histories)
    assert first == second
    assert first != third


def test_continuous_axes_are_searched_too(storage: BaseStorage, study_name: str) -> None:
    space = Space({"percentile": FloatDistribution(99.0, 100.0), "mask.a": SMALL.axes["mask.a"]})
    ledger = Ledger(storage, study_name, space, ONE_GOAL, {})

    def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
        return [Succeeded({"cost": abs(float(claim.point["percentile"] or 0) - 99.5)}) for claim in claims]

    history = search(ledger, 12, evaluate)
    assert len(history.completed) == 12
    assert len({trial.params["percentile"] for trial in history.completed}) == 12


def test_a_point_that_broke_a_batch_is_tried_again_alone(storage: BaseStorage, study_name: str) -> None:
    batches: list[int] = []

    def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
        batches.append(len(claims))
        if not any(claim.point["b"] == 2 for claim in claims):
            return cost(claims)
        return [Failed("out of memory") if len(claims) == 1 else Interrupted("worker lost")] * len(claims)

    history = search(small_ledger(storage, study_name), 6, evaluate, n_jobs=3)
    assert len(history.completed) == 4
    assert [trial.params["b"] for trial in history.failed] == [2, 2]
    assert set(history.interruptions.values()) == {1}


def test_points_of_a_search_that_was_stopped_are_taken_up_together(
    storage: BaseStorage, study_name: str
) -> None:
    def stop(claims: Sequence[Claim]) -> list[Outcome]:
        raise KeyboardInterrupt

    ledger = small_ledger(storage, study_name)
    with pytest.raises(KeyboardInterrupt):
        search(ledger, 6, stop, n_jobs=3)
    batches: list[int] = []

    def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
        batches.append(len(claims))
        return cost(claims)

    assert len(search(ledger, 6, evaluate, n_jobs=3).completed) == 6
    assert batches == [3, 3]


def test_a_first_point_that_broke_a_batch_is_tried_again_alone() -> None:
    class EveryPoint:
        def known(self, history: History) -> tuple[Sequence[Point], bool]:
            return [{"mask.a": a, "b": b} for a in ("fp32", "int8") for b in (1, 2, 3)], False

    def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
        is_broken = any(claim.point["b"] == 2 for claim in claims)
        return [Interrupted("worker lost")] * len(claims) if is_broken else cost(claims)

    ledger = small_ledger(InMemoryStorage(), "study")
    history = search(ledger, 6, evaluate, n_jobs=3, make_sampler=None, first_points=EveryPoint())
    assert len(history.completed) == 4
    assert {trial.params["b"] for trial in history.failed} == {2}


def test_a_sampler_that_remembers_on_the_study_does_not_start_over() -> None:
    space = Space({"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)})
    ledger = Ledger(InMemoryStorage(), "study", space, ONE_GOAL, {})
    history = search(
        ledger,
        8,
        lambda claims: [Succeeded({"cost": float(claims[0].point["x"] or 0)})],
        make_sampler=lambda seed: QMCSampler(seed=seed, warn_independent_sampling=False),
    )
    assert len(history.trials) == len(history.completed) == 8


def test_a_result_of_numpy_numbers_is_recorded(storage: BaseStorage, study_name: str) -> None:
    result = {"cost": np.float32(0.5), "nested": {"count": np.int64(3)}}
    history = search(small_ledger(storage, study_name), 1, lambda claims: [Succeeded(result)])
    assert history.completed[0].user_attrs["result"] == {"cost": 0.5, "nested": {"count": 3.0}}


def test_trials_of_another_program_in_the_study_are_left_alone(storage: BaseStorage, study_name: str) -> None:
    ledger = small_ledger(storage, study_name)
    foreign = optuna.load_study(study_name=study_name, storage=storage)
    foreign.add_trial(optuna.trial.create_trial(value=1.0))
    assert len(search(ledger, 6).completed) == 6


@pytest.mark.filterwarnings("ignore:The value of `grace_period` might be too small")
def test_a_killed_processes_lock_is_stale_whatever_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speakerquant.search.journal._LOCK_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    ledger = small_ledger(open_storage("studies/study.journal"), "study")
    Path("studies/study.journal.lock").symlink_to(Path("studies/study.journal").absolute())
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert ledger.claim({"mask.a": "int8", "b": 1}, "test", limit=1) is not None
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_recommended_point_is_evaluated_finally_though_another_one_was_broken_off(
    storage: BaseStorage,
    study_name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not isinstance(storage, InMemoryStorage):  # pictures do not depend on the storage
        monkeypatch.setattr(SearchReport, "_draw", lambda *_: [])
    ledger, final = (small_ledger(storage, f"{study_name}{end}") for end in ("", "-final"))
    earlier = final.claim({"mask.a": "int8", "b": 3}, "first", limit=1)
    assert earlier is not None
    final.interrupt(earlier, "stopped")
    evaluated: list[object] = []

    def evaluate(claims: Sequence[Claim], overrides: Sequence[str]) -> list[Outcome]:
        if overrides:
            evaluated.extend(claim.point["b"] for claim in claims)
        return cost(claims)

    report = SearchReport("study", ONE_GOAL, PlainView(ONE_GOAL), lambda point: "again", tmp_path, 6)
    for _ in range(2):
        Session(ledger, final, ["data=final"], SearchApplication(), evaluate, report, Observer()).run(
            Budget(6), None, example.make_sampler, seed=0
        )
    assert evaluated == [1], "the best point, once, although the session ran twice"
    tables = [line for line in capsys.readouterr().out.splitlines() if line.startswith("study: ")]
    assert [line[:12] for line in tables] == [f"study: {done} of " for done in (1, 2, 3, 4, 5, 6, 6)], (
        "one as often as more is known, and one at the end of a session"
    )


def test_a_final_evaluation_that_is_lost_ends_the_command_and_is_made_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SearchReport, "_draw", lambda *_: [])
    storage = InMemoryStorage()
    ledger, final = small_ledger(storage, "study"), small_ledger(storage, "final", math.inf)
    report = SearchReport("study", ONE_GOAL, PlainView(ONE_GOAL), lambda point: "again", tmp_path, 1)
    lost: list[str] = []

    def session(tries: int) -> None:
        def evaluate(claims: Sequence[Claim], overrides: Sequence[str]) -> list[Outcome]:
            if not overrides or len(lost) == tries:
                return cost(claims)
            lost.extend(overrides)
            return [Interrupted("worker lost")]

        Session(ledger, final, ["final"], SearchApplication(), evaluate, report, Observer()).run(
            Budget(1), None, example.make_sampler, seed=0
        )

    for _ in range(2):
        with pytest.raises(UserError, match="could not be evaluated on unseen data: worker lost"):
            session(tries=100)
    assert len(lost) == 2 * (1 + MAX_RETRIES)
    session(tries=len(lost))
    assert len(final.history().completed) == 1
