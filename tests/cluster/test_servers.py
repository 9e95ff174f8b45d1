"""PostgreSQL for the study, MLflow's server with an S3 store: restarted, refusing, keeping artifacts once."""

import http.server
import json
import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from commands.conftest import Command, Workspace, invoke, speakerquant, workspace  # noqa: F401
from commands.test_search import arguments
from conftest import console_script
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from search import example
from servers import PostgreSql, WebServer, mlflow_server, s3_store

from speakerquant.commands import inspect_engine
from speakerquant.errors import UserError
from speakerquant.search import storage as storage_module
from speakerquant.search.history import FAILURE
from speakerquant.search.storage import open_storage
from speakerquant.tracking.artifacts import REFERENCE_FILE
from speakerquant.tracking.client import connect
from speakerquant.tracking.recorded_runs import children
from speakerquant.tracking.runs import TrackedRun

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSql]:
    server = PostgreSql()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def tracking_server(database: PostgreSql, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("servers")
    with s3_store(folder) as s3:
        server = mlflow_server(folder, database.create("mlflow"), s3)
        yield server
        server.stop()


def after(seconds: float, action: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def test_a_search_survives_its_database_and_goes_on_after_its_tracking_server(
    database: PostgreSql,
    tracking_server: WebServer,
    workspace: Workspace,  # noqa: F811
    invoke: Command,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # some fourteen seconds instead of minutes
    studies = database.create("studies")
    two_masks = "mask.embedding_linear=fp32"
    shared = [f"hydra.sweeper.storage='{studies}'", f"tracking.uri={tracking_server.url}"]
    command = [console_script(), *arguments(workspace, "away", two_masks, *shared)]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=file, text=True)

    def wait_for_trial(number: int) -> None:
        while f"#{number} :" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)

    wait_for_trial(0)
    database.stop()
    database.start()
    wait_for_trial(1)
    tracking_server.stop()
    assert process.wait(timeout=200) == 2, log.read_text()
    last = log.read_text().splitlines()[-1]
    assert last.startswith("error: tracking.uri"), last
    assert last.endswith("the same command goes on when it works again"), last

    tracking_server.start()
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr

    trials = optuna.load_study(study_name="away", storage=open_storage(studies)).trials
    assert sum(trial.state is TrialState.COMPLETE for trial in trials) == 2
    assert not any(trial.state is TrialState.RUNNING or FAILURE in trial.user_attrs for trial in trials)
    tracking = connect(tracking_server.url, "away")
    runs = tracking.client.search_runs([tracking.experiment_id])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    statuses = [run.info.status for run in children(tracking, parent.info.run_id)]
    assert parent.info.status == "FINISHED"
    assert "RUNNING" not in statuses and statuses.count("FINISHED") == 3

    # The engines are with the server only, and found there.
    reference, *_ = tmp_path.rglob(REFERENCE_FILE)
    assert json.loads(reference.read_text())["files"] == ["model.onnx", "engine.openvino"]
    assert not list(reference.parent.glob("*.onnx"))
    for named in (reference.parent, reference.parent / "engine.openvino"):
        shown = invoke(inspect_engine.main, "info", named)
        assert shown.code == 0 and "MB" in shown.out, shown.err


def test_a_database_that_is_restarted_is_waited_for(
    database: PostgreSql, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = example.ledger(open_storage(database.create("restarted")), "study")
    point = example.SPACE.random_unseen(set(), 0)
    assert point is not None
    database.stop()
    start = after(1, database.start)
    with caplog.at_level(logging.WARNING):
        assert ledger.claim(point, "test", limit=9) is not None
    start.join()
    assert caplog.text.count("waiting for it") == 1
    assert "correct" not in caplog.text, "the password"


def test_a_database_that_stays_away_is_waited_for_once(
    database: PostgreSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_RESTART_SECONDS", 1)
    ledger = example.ledger(open_storage(database.create("gone")), "study")
    database.stop()
    try:
        for allowed in (10, 0.5):
            begin = time.monotonic()
            with pytest.raises(Exception) as caught:
                ledger.history()
            assert time.monotonic() - begin < allowed
        assert caught.type is StorageInternalError
    finally:
        database.start()


def test_a_database_that_refuses_the_password_is_said_in_one_line(database: PostgreSql) -> None:
    with pytest.raises(
        UserError, match=r"password authentication failed.* the user and the password"
    ) as caught:
        open_storage(database.url(password="guessed"))
    assert "\n" not in str(caught.value) and "guessed" not in str(caught.value)


def test_a_long_name_is_cut_to_what_the_database_takes(tracking_server: WebServer) -> None:
    run = TrackedRun.start(connect(tracking_server.url, "names"), "x" * 1000)
    run.rename("y" * 1000)
    run.finish()
    assert (run.tracking.client.get_run(run.run_id).info.run_name or "").startswith("y" * 200)


@pytest.mark.parametrize("status", [401, 403])
def test_a_tracking_server_that_refuses_the_credentials_is_said_in_one_line(status: int) -> None:
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match=r"refuses the request.*MLFLOW_TRACKING_USERNAME") as caught:
            connect(f"http://127.0.0.1:{server.server_port}", "experiment")
        server.shutdown()
    assert "\n" not in str(caught.value)
