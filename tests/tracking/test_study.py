"""One parent run per study, whatever happens to commands and to the run itself."""

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution

from speakerquant.search.goals import Goals
from speakerquant.search.ledger import Ledger
from speakerquant.search.space import Space
from speakerquant.search.storage import open_storage
from speakerquant.tracking.client import Tracking, connect
from speakerquant.tracking.runs import FAILURE_TAG, PARENT_FILE, TrackedRun
from speakerquant.tracking.study import StudyRun, trial_tags

pytestmark = pytest.mark.slow


@pytest.fixture
def tracking(tmp_path: Path) -> Tracking:
    return connect(f"sqlite:///{tmp_path}/mlflow.db", "studies")


@pytest.fixture
def ledger() -> Ledger:
    space = Space({"a": CategoricalDistribution((1, 2, 3))})
    return Ledger(open_storage(None), "mine", space, Goals({"cost": "minimize"}), {})


def parent(tracking: Tracking, folder: Path) -> str:
    return str(tracking.client.get_run((folder / PARENT_FILE).read_text()).info.run_id)


def status(tracking: Tracking, run_id: str) -> str:
    return str(tracking.client.get_run(run_id).info.status)


def test_commands_share_the_run_until_the_last_of_them_ends(
    tracking: Tracking, ledger: Ledger, tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, second = (StudyRun(tracking, [ledger], folder) for folder in folders)
    run_id = parent(tracking, folders[0])
    assert parent(tracking, folders[1]) == run_id
    claim = ledger.claim({"a": 1}, "test", limit=3)
    assert claim is not None
    first.closed("stopped")
    assert status(tracking, run_id) == "RUNNING", "the other command's trial is running"
    ledger.complete(claim, {"cost": 1.0})
    second.closed(None)
    assert status(tracking, run_id) == "FINISHED"


def test_a_resumed_study_forgets_how_it_was_stopped(
    tracking: Tracking, ledger: Ledger, tmp_path: Path
) -> None:
    StudyRun(tracking, [ledger], tmp_path).closed("stopped")
    run_id = parent(tracking, tmp_path)
    assert status(tracking, run_id) == "FAILED"
    StudyRun(tracking, [ledger], tmp_path)
    assert parent(tracking, tmp_path) == run_id
    assert status(tracking, run_id) == "RUNNING"
    assert FAILURE_TAG not in tracking.client.get_run(run_id).data.tags


def test_a_deleted_run_is_replaced(tracking: Tracking, ledger: Ledger, tmp_path: Path) -> None:
    study_run = StudyRun(tracking, [ledger], tmp_path)
    before = parent(tracking, tmp_path)
    tracking.client.delete_run(before)
    study_run.updated([], None)
    study_run.before_batch()
    assert parent(tracking, tmp_path) != before
    study_run.closed(None)
    assert status(tracking, parent(tracking, tmp_path)) == "FINISHED"


def test_runs_of_trials_that_are_over_are_closed(tracking: Tracking, ledger: Ledger, tmp_path: Path) -> None:
    study_run = StudyRun(tracking, [ledger], tmp_path)
    claims = [ledger.claim({"a": value}, "test", limit=3) for value in (1, 2)]
    runs = []
    for claim in claims:
        assert claim is not None
        tags = trial_tags("mine", claim.number)
        runs.append(TrackedRun.start(tracking, "trial", parent(tracking, tmp_path), tags))
    assert claims[0] is not None
    ledger.interrupt(claims[0], "killed")
    study_run.closed("stopped")
    assert [status(tracking, run.run_id) for run in runs] == ["FAILED", "RUNNING"]
