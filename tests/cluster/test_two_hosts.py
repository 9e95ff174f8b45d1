"""Two hosts share a study and a tracking server, and one of them dies.

The hosts are network, process and host-name namespaces behind a bridge, so that root and iproute2 are needed.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import optuna
import pytest

# Fixtures of the commands' tests.
from commands.conftest import Workspace, workspace  # noqa: F401
from commands.test_search import arguments
from mlflow.entities import Run
from optuna.trial import TrialState
from servers import PostgreSql, mlflow_server, s3_store

from speakerquant.search.history import INTERRUPTED
from speakerquant.search.storage import open_storage
from speakerquant.tracking.client import Tracking, connect
from speakerquant.tracking.recorded_runs import children
from speakerquant.tracking.runs import DIED, FAILURE_TAG

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(
        "SPEAKERQUANT_TWO_HOSTS" not in os.environ,
        reason="takes three minutes, as a dead host is noticed after two; set SPEAKERQUANT_TWO_HOSTS=1",
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are made by root"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="iproute2 is not installed"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="util-linux's unshare is not installed"),
]

BRIDGE, SERVER, NETWORK = "spkq0", "10.77.0.1", "10.77.0.0/24"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Host:
    """A host of its own name, address and processes; nothing of it lives on after :meth:`die`."""

    def __init__(self, number: int, folder: Path) -> None:
        self.name = f"node{number}"
        self.folder = folder / self.name
        self.folder.mkdir()
        self._namespace, self._processes = f"spkq-{self.name}", list[subprocess.Popen[bytes]]()
        ip("netns", "add", self._namespace)
        cable = f"spkq-v{number}"
        ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", self._namespace)
        ip("link", "set", cable, "master", BRIDGE, "up")
        ip("-n", self._namespace, "addr", "add", f"10.77.0.{10 + number}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self._namespace, "link", "set", device, "up")

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        inside = ["ip", "netns", "exec", self._namespace]
        inside += ["unshare", "--uts", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        inside += ["sh", "-c", 'hostname "$0"; exec "$@"', self.name, *command]
        with (self.folder / "log").open("w") as log:
            process = subprocess.Popen(inside, cwd=self.folder, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def die(self) -> None:
        """Kill all processes at once: the first of a process namespace takes the others with it."""
        for process in self._processes:
            process.kill()
            process.wait()

    def remove(self) -> None:
        self.die()
        ip("netns", "del", self._namespace)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Host]]:
    ip("link", "add", BRIDGE, "type", "bridge")
    made: list[Host] = []
    try:
        ip("addr", "add", f"{SERVER}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        made.extend(Host(number, tmp_path) for number in (1, 2))
        yield made
    finally:
        for host in made:
            with suppress(subprocess.CalledProcessError):
                host.remove()
        ip("link", "del", BRIDGE)


@pytest.fixture
def database(hosts: list[Host]) -> Iterator[PostgreSql]:
    server = PostgreSql(SERVER, NETWORK)
    yield server
    server.remove()


@pytest.fixture
def tracking_uri(database: PostgreSql, tmp_path: Path) -> Iterator[str]:
    with s3_store(tmp_path) as s3:
        server = mlflow_server(tmp_path, database.create("mlflow"), s3, SERVER)
        yield server.url
        server.stop()


def test_the_trials_of_a_host_that_died_are_taken_over(
    hosts: list[Host],
    database: PostgreSql,
    tracking_uri: str,
    workspace: Workspace,  # noqa: F811
) -> None:
    studies = database.create("studies")
    program = str(Path(sys.executable).with_name("speakerquant"))
    shared = [f"hydra.sweeper.storage='{studies}'", f"tracking.uri={tracking_uri}"]
    command = [program, *arguments(workspace, "hosts", *shared)]
    dying, surviving = hosts
    dying.start(command)
    _wait_until(lambda: "#0 :" in dying.log, dying)
    search = surviving.start(command)
    time.sleep(1)  # the job is about to open its run
    tracking = connect(tracking_uri, "hosts")
    storage = open_storage(studies)

    def runs_of_trials() -> list[str]:
        [parent] = _parents(tracking)
        return [run.info.run_name for run in children(tracking, parent.info.run_id)]

    _wait_until(lambda: any("trial 0" in name for name in runs_of_trials()), dying)
    dying.die()
    killed = time.monotonic()

    def interrupted() -> bool:
        return INTERRUPTED in optuna.load_study(study_name="hosts", storage=storage).trials[0].user_attrs

    _wait_until(interrupted, surviving)
    print(f"taken over after {time.monotonic() - killed:.0f} s")
    assert search.wait(timeout=200) == 0, surviving.log
    print(f"complete after {time.monotonic() - killed:.0f} s")

    trials = optuna.load_study(study_name="hosts", storage=storage).trials
    assert not [trial for trial in trials if trial.state is TrialState.RUNNING]
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert len({str(trial.params) for trial in complete}) == len(complete) == 4
    [parent] = _parents(tracking)
    assert parent.info.status == "FINISHED"
    ended = [
        (run.info.status, run.data.tags.get(FAILURE_TAG)) for run in children(tracking, parent.info.run_id)
    ]
    assert sorted(ended, key=str) == [("FAILED", DIED), *[("FINISHED", None)] * 5], (
        "4 masks and the final one"
    )


def _parents(tracking: Tracking) -> list[Run]:
    runs = tracking.client.search_runs([tracking.experiment_id])
    return [run for run in runs if "mlflow.parentRunId" not in run.data.tags]


def _wait_until(condition: Callable[[], bool], host: Host) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < deadline, host.log
        time.sleep(0.2)
