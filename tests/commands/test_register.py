"""``speakerquant-register``: a run's engine as a model that MLflow serves."""

import base64
import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import mlflow.models
import pytest

from speakerquant.commands import evaluate_mask, register_model, verify_speaker

from .conftest import QUICK, Command, Workspace, exit_code, free_port

pytestmark = pytest.mark.slow

NAME = "models:/registered@chosen"


@pytest.fixture(scope="module")
def run(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The MLflow run of a mask, as the command that measured it says."""
    settings = [*workspace.arguments(), *QUICK, "tracking.experiment=registry", "mask=embedding_linear"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.chdir(tmp_path_factory.mktemp("registry"))
        exit_code(evaluate_mask.main, *settings)
    [run_id] = re.findall("recorded as MLflow run ([0-9a-f]{32})", out.getvalue())
    return str(run_id)


@pytest.fixture
def register(workspace: Workspace, invoke: Command) -> Command:
    settings = [f"tracking.uri={workspace.tracking_uri}", "tracking.experiment=registry", "name=registered"]
    return lambda *arguments: invoke(register_model.main, *settings, *arguments)


def ask(address: str, request: dict[str, Any]) -> Any:
    body = json.dumps({"dataframe_records": [request]}).encode()
    with urllib.request.urlopen(
        urllib.request.Request(address, body, {"Content-Type": "application/json"})
    ) as answer:
        return json.load(answer)["predictions"][0]


@pytest.mark.cluster
def test_the_server_answers_as_the_command(
    workspace: Workspace, run: str, register: Command, invoke: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = register(f"run={run}", "alias=chosen")
    assert registered.code == 0, registered.err
    assert registered.out.startswith(NAME)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workspace.tracking_uri)
    recordings = sorted(workspace.corpus.rglob("*.wav"))[:3]
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", NAME, "--env-manager", "local"]
    with subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    ) as server:
        try:
            for count in (2, 3):
                verified = invoke(verify_speaker.main, "--model", NAME, *recordings[:count])
                assert verified.code == 0, verified.err
                *enrolled, tested = [
                    base64.b64encode(path.read_bytes()).decode() for path in recordings[:count]
                ]
                wait_for(f"http://127.0.0.1:{port}/ping")
                answer = ask(
                    f"http://127.0.0.1:{port}/invocations",
                    {"enrolled": enrolled[0] if count == 2 else enrolled, "tested": tested},
                )
                found = re.search(r"score (\S+),.* log-likelihood ratio (\S+),", verified.out)
                assert found
                assert answer["log_likelihood_ratio"] == pytest.approx(float(found[2]), abs=0.006)
                assert answer["score"] == pytest.approx(float(found[1]), abs=1e-6)
                assert answer["same_speaker"] == verified.out.startswith("the same")
                assert answer["doubt"] is None
            address = f"http://127.0.0.1:{port}/invocations"
            silent = ask(address, {"enrolled": enrolled, "tested": [0.0] * 16000})
            assert silent["doubt"] == "tested: silent throughout"
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # it runs in a process below


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address)
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{address} does not answer")


def test_the_threshold_that_a_model_is_registered_with_is_its_own(
    workspace: Workspace, run: str, register: Command, invoke: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert register(f"run=runs:/{run}", "alias=chosen", "threshold=0.9").code == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workspace.tracking_uri)
    asked = ("--model", NAME, *sorted(workspace.corpus.rglob("*.wav"))[:2])
    assert "threshold 0.900000" in invoke(verify_speaker.main, *asked).out
    assert "threshold 0.900000" not in invoke(verify_speaker.main, *asked, "--false-accepts", "50").out
    assert "threshold 0.300000" in invoke(verify_speaker.main, *asked, "--threshold", "0.3").out


def test_a_copy_that_registers_into_the_original_is_warned_of(
    workspace: Workspace, run: str, register: Command, tmp_path: Path
) -> None:
    store = shutil.copy(workspace.tracking_uri.removeprefix("sqlite:///"), tmp_path)
    (tmp_path / "artifacts").mkdir()
    finished = register(f"run={run}", f"tracking.uri=sqlite:///{store}", "name=copied")
    assert finished.code == 0, finished.err
    assert f", not beside {store}, which is a copy" in finished.out


def test_a_model_says_which_of_its_answers_may_be_null(run: str, register: Command) -> None:
    assert register(f"run={run}", "alias=chosen").code == 0
    outputs = mlflow.models.get_model_info(NAME).signature.outputs
    required = {column.name: column.required for column in outputs}
    assert required == {"score": True, "same_speaker": True, "log_likelihood_ratio": False, "doubt": False}


def test_a_server_that_does_not_answer_is_said_so(invoke: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    start = time.monotonic()
    finished = invoke(verify_speaker.main, "--model", NAME, "a.wav", "b.wav")
    assert time.monotonic() - start < 60  # MLflow itself would wait for four minutes
    assert finished.code == 2
    assert "does not answer" in finished.err.splitlines()[-1]


def test_a_mistake_is_one_line(
    workspace: Workspace, run: str, register: Command, invoke: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = workspace.tracking_of("registry")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workspace.tracking_uri)
    scores = next(
        Path(tracking.client.get_run(run).info.artifact_uri.removeprefix("file://")).glob("scores.npy")
    )
    recording = next(workspace.corpus.rglob("*.wav"))
    finished = {
        "outputs/chosen: no such file; give a run's folder": register("run=outputs/chosen"),
        f"there is no run {'0' * 32}; its id is": register(f"run=runs:/{'0' * 32}"),
        f"{recording}: nothing there says which run": register(f"run={recording}"),
        "alias=a b: refused": register(f"run={run}", "alias='a b'"),
        "registered@gone: no such model": invoke(
            verify_speaker.main, "--model", "models:/registered@gone", "a.wav", "b.wav"
        ),
        "run: not set": register(),
        "threshold=0.5 false_accepts=1: give one of them": register(
            f"run={run}", "threshold=0.5", "false_accepts=1"
        ),
        "threshold of 75: scores are cosines": register(f"run={run}", "threshold=75"),
    }
    aside = scores.rename(scores.with_name("aside.npy"))
    finished["has no scores.npy"] = register(f"run={run}")
    aside.rename(scores)
    for said, each in finished.items():
        assert each.code == 2
        assert said in each.err.splitlines()[-1]
