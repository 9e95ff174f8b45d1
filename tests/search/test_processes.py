"""Several processes on one study, and processes that are killed: every point once, nothing lost."""

import collections
import random
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

import pytest
from optuna.trial import TrialState
from processes import PROCESSES

from search import example
from speakerquant.search.history import INTERRUPTED, REPEAT_OF, WITHDRAWN, History
from speakerquant.search.ledger import MAX_RETRIES
from speakerquant.search.storage import open_storage

pytestmark = pytest.mark.slow


def start(location: str, study: str, n_trials: int, seconds: float) -> tuple[ForkServerProcess, Connection]:
    """A process that takes part in a search, and its reports."""
    reports, sent = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=example.take_part, args=(sent, location, study, n_trials, seconds))
    process.start()
    sent.close()
    return process, reports


def evaluated(process: ForkServerProcess, reports: Connection) -> Iterator[int]:
    """The trials that a process has evaluated by its end."""
    while True:
        try:
            yield reports.recv()
        except EOFError:
            break
    process.join(timeout=200)
    assert process.exitcode == 0


def history_of(location: str, study: str) -> History:
    return example.ledger(open_storage(location), study, example.SMALLER).history()


def finished_history(location: str, study: str) -> History:
    history = history_of(location, study)
    assert not history.running
    assert all(trial.state in (TrialState.COMPLETE, TrialState.FAIL) for trial in history.trials)
    return history


def warm_start_keys() -> list[str]:
    """The first points of an undisturbed search."""
    ledger = example.ledger(open_storage(None), "alone", example.SMALLER)
    first_points = example.warm_start(example.SMALLER)
    example.Search(ledger, example.Budget(10), example.evaluate, first_points=first_points).run()
    return list(ledger.history().finished)


def test_four_processes_share_a_study_without_losing_or_repeating_a_point(
    location: str, study_name: str
) -> None:
    processes = [start(location, study_name, n_trials=12, seconds=0.05) for _ in range(4)]
    evaluations = collections.Counter(number for process in processes for number in evaluated(*process))
    history = finished_history(location, study_name)
    assert len(history.completed) == 12
    assert set(evaluations.values()) == {1}
    assert sorted(evaluations) == sorted(trial.number for trial in history.completed)
    assert set(warm_start_keys()) <= set(history.finished)
    others = [trial for trial in history.trials if trial not in history.completed]
    assert all(REPEAT_OF in trial.user_attrs or WITHDRAWN in trial.user_attrs for trial in others)


def test_a_search_killed_again_and_again_still_completes(location: str, study_name: str) -> None:
    generator = random.Random(0)
    kills, has_hit = 0, False
    while kills < 3 or (not has_hit and kills < 12):
        process, reports = start(location, study_name, n_trials=16, seconds=0.15)
        reports.recv()  # at least one evaluation has ended
        time.sleep(generator.uniform(0, 0.25))
        process.kill()
        process.join()
        kills += 1
        has_hit |= bool(history_of(location, study_name).running)
    assert [*evaluated(*start(location, study_name, n_trials=16, seconds=0.0))]
    history = finished_history(location, study_name)
    assert len(history.completed) == 16
    assert not history.failed
    for key, count in history.interruptions.items():
        assert count <= MAX_RETRIES
        assert key in history.finished
    interrupted = [trial for trial in history.trials if INTERRUPTED in trial.user_attrs]
    assert interrupted, "no kill hit an evaluation"
    assert all(trial.state is TrialState.FAIL for trial in interrupted)
