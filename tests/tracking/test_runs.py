"""MLflow runs on a real SQLite store: they always end, and can be read back."""

import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from processes import PROCESSES, Program

from speakerquant.errors import UserError
from speakerquant.measuring.result import UNFINISHED
from speakerquant.report.run_names import comparable_runs, name_runs
from speakerquant.tracking.client import (
    Tracking,
    connect,
    find_experiment,
    find_experiment_of_run,
    find_store,
)
from speakerquant.tracking.recorded_runs import (
    children,
    close_dead_multirun,
    fail_running,
    latest_multirun,
    mask_runs,
)
from speakerquant.tracking.runs import DIED, JOBS_TAG, STUDY_TAG, TrackedRun, close_dead_run, tracked_run

pytestmark = pytest.mark.slow

NewStore = Callable[[Path], str]


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory, new_store: NewStore) -> Tracking:
    return connect(new_store(tmp_path_factory.mktemp("store")), "experiment")


def status(tracking: Tracking, run: TrackedRun) -> str:
    return str(tracking.client.get_run(run.run_id).info.status)


def test_a_finished_block_is_a_finished_run(tracking: Tracking, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("content")
    with tracked_run(tracking, "name") as run:
        run.log(params={"mask.a": "int8", "long": "x" * 10_000})
        run.log(metrics={"eer": 1.5}, step=3)
        run.log_artifact(tmp_path / "file.txt")
    assert status(tracking, run) == "FINISHED"
    record = tracking.client.get_run(run.run_id)
    assert record.data.metrics == {"eer": 1.5}
    assert record.data.params["mask.a"] == "int8"
    assert [item.path for item in tracking.client.list_artifacts(run.run_id)] == ["file.txt"]


@pytest.mark.parametrize(
    "error", [UserError("the reason"), ValueError("the reason"), KeyboardInterrupt("the reason")]
)
def test_a_failing_block_is_a_failed_run_with_its_reason(tracking: Tracking, error: BaseException) -> None:
    with pytest.raises(type(error)), tracked_run(tracking, "name") as run:
        raise error
    assert status(tracking, run) == "FAILED"
    assert tracking.client.get_run(run.run_id).data.tags["failure"] == "the reason"


def test_the_runs_of_a_multirun_come_back_in_order(tracking: Tracking) -> None:
    parent = TrackedRun.start(tracking, "parent")
    for index in range(3):
        try:
            with tracked_run(tracking, f"child{index}", parent.run_id) as run:
                if index == 1:
                    raise UserError("broken")
                run.log(params={"mask.a": "int8", "mask.b.convs.0": "fp32", "other": index})
                run.log(metrics={"eer": float(index)})
        except UserError:
            pass
    runs = mask_runs(children(tracking, parent.run_id))
    assert [run.failure for run in runs] == [None, "broken", None]
    assert [run.metrics.get("eer") for run in runs] == [0.0, None, 2.0]
    assert runs[0].mask == runs[2].mask == {"a": "int8", "b.convs.0": "fp32"}
    assert runs[1].mask == {}, "it failed before its mask was known"
    assert [run.name for run in runs] == ["child0", "child1", "child2"]
    assert latest_multirun(tracking) == parent.run_id


def test_a_run_that_goes_on_has_not_failed(tracking: Tracking) -> None:
    parent = TrackedRun.start(tracking, "parent")
    with tracked_run(tracking, "child", parent.run_id):
        [run] = mask_runs(children(tracking, parent.run_id))
        assert run.failure == UNFINISHED


def test_a_run_whose_process_died_is_closed_with_its_multirun(tracking: Tracking) -> None:
    parent = TrackedRun.start(tracking, "parent")
    child = TrackedRun.start(tracking, "child", parent.run_id)
    fail_running(tracking, parent.run_id)
    assert status(tracking, child) == "FAILED"
    assert [run.failure for run in mask_runs(children(tracking, parent.run_id))] == [DIED]
    assert status(tracking, parent) == "RUNNING"


def test_a_deleted_experiment_is_said_in_one_line(tmp_path: Path, new_store: NewStore) -> None:
    uri = new_store(tmp_path)
    tracking = connect(uri, "gone")
    tracking.client.delete_experiment(tracking.experiment_id)
    with pytest.raises(UserError, match=r"tracking\.experiment=gone"):
        connect(uri, "gone")


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "sqlite:///{tmp}/folder/mlflow.db"])
def test_who_reads_makes_no_database(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"tracking\.uri={uri.format(tmp=tmp_path)}: there is no file "):
        find_experiment(uri.format(tmp=tmp_path), "experiment")
    assert not list(tmp_path.iterdir())


def test_who_reads_makes_no_tables_in_a_database_of_something_else(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "studies.db")) as database:
        database.execute("create table studies (id int)")
        database.commit()
    before = (tmp_path / "studies.db").read_bytes()
    with pytest.raises(UserError, match="holds no runs of MLflow"):
        find_store(f"sqlite:///{tmp_path}/studies.db")
    assert (tmp_path / "studies.db").read_bytes() == before


def test_who_reads_makes_no_experiment_and_hears_which_there_are(tracking: Tracking) -> None:
    with pytest.raises(UserError, match=r"tracking\.experiment=runz: .* there are .*experiment"):
        find_experiment(tracking.client.tracking_uri, "runz")
    assert tracking.client.get_experiment_by_name("runz") is None


def test_a_store_stays_the_same_one_in_another_folder(
    tmp_path: Path, new_store: NewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    tracking = connect("sqlite:///mlflow.db", "experiment")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    run = TrackedRun.start(tracking, "name")
    assert tracking.client.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    found = find_experiment_of_run(f"sqlite:///{tmp_path}/mlflow.db", run.run_id)
    assert found.experiment_id == tracking.experiment_id
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_store_is_made_below_a_folder_whose_name_has_signs_of_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "year=2024, [é] #1"
    folder.mkdir()
    monkeypatch.chdir(folder)
    TrackedRun.start(connect("sqlite:///mlflow.db", "Default"), "name")
    assert [*tmp_path.iterdir()] == [folder]
    assert (folder / "mlflow.db").is_file()


def test_artifacts_are_not_recorded_where_a_store_was_before_it_was_moved(
    tmp_path: Path, new_store: NewStore
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    (tmp_path / "file.txt").write_text("content")
    tracking = connect(new_store(before), "experiment")
    TrackedRun.start(tracking, "name").log_artifact(tmp_path / "file.txt")
    before.rename(after)
    uri = f"sqlite:///{after}/mlflow.db"
    with pytest.raises(
        UserError, match=rf"experiment=experiment: .* move {after} back to {before}, "
    ) as caught:
        connect(uri, "experiment")
    assert "\n" not in str(caught.value)
    assert not before.exists()
    connect(uri, "another")
    before.symlink_to(after)
    assert connect(uri, "experiment").experiment_id == tracking.experiment_id


def test_artifacts_that_a_copied_store_sends_to_the_original_are_warned_of(
    tmp_path: Path, new_store: NewStore, caplog: pytest.LogCaptureFixture
) -> None:
    original, copy, link = (tmp_path / name for name in ("original", "copy", "link"))
    (tmp_path / "file.txt").write_text("content")
    tracking = connect(new_store(original), "experiment")
    TrackedRun.start(tracking, "name").log_artifact(tmp_path / "file.txt")
    shutil.copytree(original, copy)
    link.symlink_to(original)
    for folder, experiment in ((original, "experiment"), (link, "experiment"), (copy, "another")):
        connect(f"sqlite:///{folder}/mlflow.db", experiment)
    assert not caplog.records
    for _ in range(2):  # as by jobs of a multirun
        connect(f"sqlite:///{copy}/mlflow.db", "experiment")
    [record] = caplog.records
    assert f"its artifacts go to {original}/artifacts, not beside {copy}/mlflow.db" in record.getMessage()


def test_the_latest_multirun_is_found_before_however_many_single_runs(
    tmp_path: Path, new_store: NewStore
) -> None:
    tracking = connect(new_store(tmp_path), "experiment")
    parents = [TrackedRun.start(tracking, "parent").run_id for _ in range(2)]
    for parent in parents:
        TrackedRun.start(tracking, "child", parent)
    single = TrackedRun.start(tracking, "single").run_id
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.row_factory = sqlite3.Row
        [row] = database.execute("select * from runs where run_uuid = ?", [single])
        copies = [{**row, "run_uuid": f"copy{number}"} for number in range(1001)]
        values = ", ".join(f":{name}" for name in row.keys())  # noqa: SIM118, a row is no mapping
        database.executemany(f"insert into runs values ({values})", copies)
        database.commit()
    assert latest_multirun(tracking) == parents[1]


def test_an_empty_experiment_has_no_multirun(tracking: Tracking) -> None:
    with pytest.raises(UserError, match="no multirun"):
        latest_multirun(connect(tracking.client.tracking_uri, "empty"))


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite:///{tmp}/file/mlruns/mlflow.db", "cannot write "),
        ("sqlite:///{tmp}/file", r"the file cannot be opened .*file is not a database.*choose another$"),
        ("nonsense://store", "does not answer"),
        ("", r"=: empty; leave it out for the default$"),
    ],
)
def test_a_store_that_cannot_be_opened_is_said_in_one_line(tmp_path: Path, uri: str, said: str) -> None:
    (tmp_path / "file").write_text("not a database, but long enough to look like one to nobody")
    with pytest.raises(UserError, match=rf"tracking\.uri.*{said}") as caught:
        connect(uri.format(tmp=tmp_path), "experiment")
    assert "\n" not in str(caught.value)


def test_an_experiment_needs_a_name(tracking: Tracking) -> None:
    with pytest.raises(UserError, match=r"tracking\.experiment=: empty"):
        connect(tracking.client.tracking_uri, "")


@pytest.mark.parametrize("uri", ["{tmp}/mlruns", "file:{tmp}/mlruns"])
def test_a_folder_as_store_is_answered_with_what_to_use(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UserError, match=r"use a database, such as sqlite:///mlflow\.db"):
        connect(uri.format(tmp=tmp_path), "experiment")


def test_a_database_of_another_mlflow_is_answered_with_the_command_that_mends_it(
    tmp_path: Path, new_store: NewStore
) -> None:
    uri = new_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("update alembic_version set version_num = '451aebb31d03'")
        database.commit()
    # A process knows by heart which stores are in order.
    code, printed = Program(connect, uri, "experiment").end()
    assert code == 1
    assert f"mlflow db upgrade {uri}" in printed.splitlines()[-1]


def test_a_database_whose_tables_are_incomplete_is_answered_with_what_to_do(
    tmp_path: Path, new_store: NewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speakerquant.tracking.client._CREATION_RETRIES", 0)
    uri = new_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("drop table alembic_version")
        database.execute("drop table webhooks")
    with pytest.raises(UserError, match=r"tables are incomplete .*; delete the file, or if it has runs"):
        connect(uri, "experiment")


def print_experiment(at_once: Barrier, uri: str) -> None:
    at_once.wait()
    print(connect(uri, "experiment").experiment_id)


def test_processes_may_use_a_new_store_together_after_one_that_was_killed_making_it(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    killed, until = Program(connect, uri, "experiment"), time.monotonic() + 60
    while not any(path.stat().st_size > 200_000 for path in tmp_path.rglob("mlflow.db")):
        assert killed.is_running and time.monotonic() < until
        time.sleep(0.01)
    killed.stop(signal.SIGKILL)
    assert killed.end()[0] == -signal.SIGKILL
    assert not (tmp_path / "mlruns" / "mlflow.db").exists(), "it may lack any of its tables"
    at_once = PROCESSES.Barrier(2)
    programs = [Program(print_experiment, at_once, uri) for _ in range(2)]
    ends = [program.end() for program in programs]
    assert [code for code, _ in ends] == [0] * 2, ends
    assert len({printed.splitlines()[-1] for _, printed in ends}) == 1


def test_parameters_and_reasons_are_recorded_without_passwords(tracking: Tracking) -> None:
    run = TrackedRun.start(tracking, "name")
    run.log(params={"tracking.uri": "http://u:secret@host", "api_token": "secret", "seed": 1})
    run.fail("http://u:secret@host does not answer")
    recorded = tracking.client.get_run(run.run_id).data
    assert recorded.params == {"tracking.uri": "http://u:***@host", "api_token": "***", "seed": "1"}
    assert "secret" not in str(recorded.tags)


def test_a_note_that_is_too_long_ends_with_a_whole_line(tracking: Tracking) -> None:
    run = TrackedRun.start(tracking, "name")
    run.log(note="| a mask | 1.234 |\n" * 500)
    kept, _, end = tracking.client.get_run(run.run_id).data.tags["mlflow.note.content"].rpartition("\n\n")
    assert {*kept.splitlines()} == {"| a mask | 1.234 |"}
    assert len(kept) > 4900 and end.startswith("… (the rest")


def test_whose_process_died_is_closed_unless_it_was_deleted(tracking: Tracking) -> None:
    died, deleted = (TrackedRun.start(tracking, name) for name in ("died", "deleted"))
    tracking.client.delete_run(deleted.run_id)
    for run_id in (died.run_id, deleted.run_id, "0" * 32):
        close_dead_run(tracking, run_id)
    assert [status(tracking, run) for run in (died, deleted)] == ["FAILED", "RUNNING"]


@pytest.mark.parametrize(
    ("digest", "words"),
    [
        ("rounding", "rounding recordings"),
        ("speakers", "speakers"),
        ("conditions", "conditions"),
        ("development", "development list"),
    ],
)
def test_what_a_run_depends_on_tells_it_from_others_where_it_was_recorded(
    tracking: Tracking, digest: str, words: str
) -> None:
    parent = TrackedRun.start(tracking, "multirun")
    for recorded in ({}, {f"digest.{digest}": "1" * 32}, {f"digest.{digest}": "2" * 32}):
        with tracked_run(tracking, "job", parent.run_id) as run:
            run.log(params={"mask.unit": "int8", **recorded})
    named = name_runs(mask_runs(children(tracking, parent.run_id)))
    assert [each.name for each in named] == ["all", f"all · {words} {'1' * 12}", f"all · {words} {'2' * 12}"]
    assert len(comparable_runs(named)) == 1


def test_a_search_is_not_closed_for_a_dead_multirun(tracking: Tracking) -> None:
    """Its commands close it themselves, and another may be at work on it."""
    parents = [TrackedRun.start(tracking, tag, tags={tag: "2"}) for tag in (JOBS_TAG, STUDY_TAG)]
    jobs = [TrackedRun.start(tracking, "job", parent.run_id) for parent in parents]
    for run_id in (*(parent.run_id for parent in parents), "0" * 32, ""):
        close_dead_multirun(tracking, run_id)
    assert [status(tracking, run) for run in parents] == ["FAILED", "RUNNING"]
    assert [status(tracking, run) for run in jobs] == ["FAILED", "RUNNING"]


def test_a_store_that_has_no_room_is_said_in_one_line(tmp_path: Path, new_store: NewStore) -> None:
    tracking = connect(new_store(tmp_path), "experiment")
    (tmp_path / "result.json").write_text("{}")
    shutil.rmtree(tmp_path / "artifacts", ignore_errors=True)
    (tmp_path / "artifacts").touch()  # no folder, so nothing can be written there
    said = r"could not record the artifact .*result\.json"
    with pytest.raises(UserError, match=said) as caught, tracked_run(tracking, "name") as run:
        run.log_artifact(tmp_path / "result.json")
    assert "\n" not in str(caught.value)
    assert status(tracking, run) == "FAILED"
