"""Several processes on one study, and processes that are killed: every point once, nothing lost."""

import collections
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from search import example
from speakerquant.search.history import INTERRUPTED, REPEAT_OF, WITHDRAWN, History
from speakerquant.search.ledger import MAX_RETRIES
from speakerquant.search.storage import open_storage

pytestmark = pytest.mark.slow

PROGRAM = Path(example.__file__)


def start(location: str, study: str, n_trials: int, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, PROGRAM, location, study, str(n_trials), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished_history(location: str, study: str) -> History:
    history = example.ledger(open_storage(location), study).history()
    assert not history.running
    assert all(trial.state in (TrialState.COMPLETE, TrialState.FAIL) for trial in history.trials)
    return history


def warm_start_keys() -> list[str]:
    """The first points of an undisturbed search."""
    ledger = example.ledger(open_storage(None), "alone")
    example.Search(ledger, example.Budget(14), example.evaluate, first_points=example.warm_start()).run()
    return list(ledger.history().finished)


def test_four_processes_share_a_study_without_losing_or_repeating_a_point(
    location: str, study_name: str
) -> None:
    processes = [start(location, study_name, n_trials=16, seconds=0.05) for _ in range(4)]
    evaluated = collections.Counter[str]()
    for process in processes:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        evaluated.update(out.split()[1::2])
    history = finished_history(location, study_name)
    assert len(history.completed) == 16
    assert set(evaluated.values()) == {1}
    assert sorted(map(int, evaluated)) == sorted(trial.number for trial in history.completed)
    assert set(warm_start_keys()) <= set(history.finished)
    others = [trial for trial in history.trials if trial not in history.completed]
    assert all(REPEAT_OF in trial.user_attrs or WITHDRAWN in trial.user_attrs for trial in others)


def test_a_search_killed_again_and_again_still_completes(location: str, study_name: str) -> None:
    generator = random.Random(0)
    kills, has_hit = 0, False
    while kills < 3 or (not has_hit and kills < 12):
        process = start(location, study_name, n_trials=20, seconds=0.3)
        assert process.stdout is not None
        process.stdout.readline()  # at least one evaluation has ended
        time.sleep(generator.uniform(0, 0.5))
        process.kill()
        process.communicate()
        kills += 1
        has_hit |= bool(example.ledger(open_storage(location), study_name).history().running)
    last = start(location, study_name, n_trials=20, seconds=0.0)
    _, err = last.communicate(timeout=100)
    assert last.returncode == 0, err
    history = finished_history(location, study_name)
    assert len(history.completed) == 20
    assert not history.failed
    for key, count in history.interruptions.items():
        assert count <= MAX_RETRIES
        assert key in history.finished
    interrupted = [trial for trial in history.trials if INTERRUPTED in trial.user_attrs]
    assert interrupted, "no kill hit an evaluation"
    assert all(trial.state is TrialState.FAIL for trial in interrupted)
