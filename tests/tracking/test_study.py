"""One parent run per study, whatever happens to commands and to the run itself."""

from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution

from speakerquant.search.goals import Goals
from speakerquant.search.ledger import Ledger
from speakerquant.search.space import Space
from speakerquant.search.storage import open_storage
from speakerquant.tracking.client import Tracking, connect
from speakerquant.tracking.recorded_runs import children, missing_runs
from speakerquant.tracking.runs import FAILURE_TAG, JOBS_TAG, PARENT_FILE, TrackedRun
from speakerquant.tracking.study import StudyRun, trial_tags

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> Tracking:
    return connect(new_store(tmp_path_factory.mktemp("store")), "studies")


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


def missing(tracking: Tracking, folder: Path) -> list[str]:
    run_id = parent(tracking, folder)
    return missing_runs(tracking, run_id, children(tracking, run_id))


def test_it_is_said_how_many_runs_of_a_multirun_were_not_recorded(tracking: Tracking) -> None:
    multirun = TrackedRun.start(tracking, "multirun", tags={JOBS_TAG: "3"})
    TrackedRun.start(tracking, "first", multirun.run_id).finish()
    runs = children(tracking, multirun.run_id)
    assert missing_runs(tracking, multirun.run_id, runs) == ["2 of its 3 runs were not recorded, or not yet"]


def evaluate(tracking: Tracking, ledger: Ledger, folder: Path, value: int) -> str:
    """A completed trial with its run, whose id is returned."""
    claim = ledger.claim({"a": value}, "test", limit=3)
    assert claim is not None
    run = TrackedRun.start(tracking, "trial", parent(tracking, folder), trial_tags("mine", claim.number))
    ledger.complete(claim, {"cost": 1.0})
    run.finish()
    return run.run_id


def test_a_deleted_run_is_restored_and_keeps_its_trials(
    tracking: Tracking, ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study_run = StudyRun(tracking, [ledger], tmp_path)
    before = parent(tracking, tmp_path)
    for step in (lambda: study_run.updated([], None), study_run.before_batch, lambda: study_run.closed(None)):
        tracking.client.delete_run(before)
        step()
        assert parent(tracking, tmp_path) == before
        assert tracking.client.get_run(before).info.lifecycle_stage == "active"
    evaluate(tracking, ledger, tmp_path, 1)
    tracking.client.delete_run(before)
    caplog.clear()
    StudyRun(tracking, [ledger], tmp_path)
    assert [run.data.tags["trial"] for run in children(tracking, before)] == ["0"]
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.getMessage() for record in warnings] == [
        f"MLflow run mine ({before}) was deleted; restored"
    ]


def test_a_renamed_run_is_still_the_studys(tracking: Tracking, ledger: Ledger, tmp_path: Path) -> None:
    StudyRun(tracking, [ledger], tmp_path).closed(None)
    before = parent(tracking, tmp_path)
    TrackedRun(tracking, before).rename("another")
    StudyRun(tracking, [ledger], tmp_path)
    assert parent(tracking, tmp_path) == before


@pytest.mark.parametrize("how", ["deleted", "elsewhere", "renamed"])
def test_trials_whose_runs_are_missing_are_counted(
    tracking: Tracking,
    ledger: Ledger,
    tmp_path: Path,
    new_store: Callable[[Path], str],
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    study_run = StudyRun(tracking, [ledger], tmp_path)
    first, _ = (evaluate(tracking, ledger, tmp_path, value) for value in (1, 2))
    study_run.updated([], None)
    assert missing(tracking, tmp_path) == []
    if how == "deleted":
        tracking.client.delete_run(first)
    elif how == "elsewhere":
        tracking = connect(new_store(tmp_path / "another"), "studies")
    else:
        tracking.client.rename_experiment(tracking.experiment_id, "renamed")
        tracking = connect(tracking.client.tracking_uri, "studies")
    caplog.clear()
    study_run = StudyRun(tracking, [ledger], tmp_path)
    lost = 1 if how == "deleted" else 2
    assert f"{lost} of the 2 trials of study mine have no run here" in caplog.text
    evaluate(tracking, ledger, tmp_path, 3)
    study_run.updated([], None)
    assert missing(tracking, tmp_path) == [
        "1 of its runs were deleted in MLflow, where they can be restored"
        if how == "deleted"
        else "2 of 3 trials of this search have no run here"
    ]


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
    of_another = trial_tags("mine-final-of-another-list", 0)
    runs.append(TrackedRun.start(tracking, "final", parent(tracking, tmp_path), of_another))
    study_run.closed("stopped")
    assert [status(tracking, run.run_id) for run in runs] == ["FAILED", "RUNNING", "RUNNING"]
