"""The launcher ``ray``, on a real cluster of two nodes, in a small Hydra application."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from speakerquant.search.history import INTERRUPTED

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ONE_MACHINE = ROOT / "deploy/ray/one_machine.sh"

# Notes who evaluated what, and on which node. The worker that first evaluates 2 is killed.
PROGRAM = """
import os, signal, sys
from pathlib import Path
import hydra
from speakerquant.commands.console_script import hydra_job, run_command

def evaluate(config):
    import ray
    with hydra_job():
        with open(f"evaluated_{config.x}", "a") as file:
            file.write(f"{os.getpid()}@{ray.get_runtime_context().get_node_id()}\\n")
        if config.x == 2 and not Path("lost").exists():
            Path("lost").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"cost": config.x / 3}

if __name__ == "__main__":
    if "WITHOUT_RAY" in os.environ:
        sys.modules["ray"] = None
    run_command(hydra.main(config_path=".", config_name="config", version_base="1.3")(evaluate))
"""

CONFIG = f"""
defaults:
  - override hydra/launcher: ray
  - _self_
x: 0
hydra:
  searchpath: [file://{ROOT / "conf"}]
  sweep: {{dir: sweep}}
  launcher: {{masks_per_job: 2}}
"""

SEARCH = [
    *("hydra/sweeper=optuna_search", "hydra/sweeper/sampler=brute_force", "x=choice(1,2,3,4)"),
    *("hydra.sweeper.objectives={cost: minimize}", "hydra.sweeper.n_jobs=4"),
    *("hydra.sweeper.storage=study.journal", "hydra.sweeper.study_name=study"),
]


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """A Ray of two nodes; the environment by which commands find it."""
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "RAY_PORT": str(port)}
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # pytest's are too long for Ray's sockets
        subprocess.run([ONE_MACHINE, "start", folder], env=environment, check=True)
        exports = (Path(folder) / "environment").read_text().splitlines()
        yield dict(line.removeprefix("export ").split("=", 1) for line in exports)
        subprocess.run([ONE_MACHINE, "stop", folder], env=environment, check=True)


def multirun(folder: Path, *overrides: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The application, two of its jobs in a task."""
    (folder / "program.py").write_text(PROGRAM)
    (folder / "config.yaml").write_text(CONFIG)
    return subprocess.run(
        [sys.executable, "program.py", "-m", *overrides],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def evaluations(folder: Path) -> dict[int, list[str]]:
    """For every point the processes that evaluated it."""
    return {x: (folder / f"evaluated_{x}").read_text().split() for x in (1, 2, 3, 4)}


def test_a_search_asks_again_what_a_killed_worker_had_not_finished(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    finished = multirun(tmp_path, *SEARCH, environment=cluster)
    assert finished.returncode == 0, finished.stderr
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    trials = optuna.load_study(study_name="study", storage=storage).trials
    values = {trial.params["x"]: trial.value for trial in trials if trial.state is TrialState.COMPLETE}
    assert values == {x: x / 3 for x in (1, 2, 3, 4)}
    others = [trial for trial in trials if trial.state is not TrialState.COMPLETE]
    assert 2 in [trial.params["x"] for trial in others]
    assert all(INTERRUPTED in trial.user_attrs for trial in others)
    assert [len(processes) for processes in evaluations(tmp_path).values()] == [1, 2, 1, 1]


def test_a_killed_worker_ends_a_multirun_in_one_line_and_costs_no_other_result(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    finished = multirun(tmp_path, "x=1,2,3,4", environment=cluster)
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert "x=2" in line and "lost" in line
    processes = evaluations(tmp_path)
    assert processes[1] == processes[2] and processes[3] == processes[4]
    assert len({process.split("@")[1] for [process] in processes.values()}) == 2  # one task on each node


def test_what_no_node_has_is_refused_in_one_line(cluster: dict[str, str], tmp_path: Path) -> None:
    finished = multirun(tmp_path, "x=1", "hydra.launcher.num_gpus=1000", environment=cluster)
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert "1000 GPU" in line
    assert not (tmp_path / "sweep/0").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("hydra.launcher.address=127.0.0.1:1", "127.0.0.1:1"),
        ("hydra.launcher.address=ray://127.0.0.1:1", "host:port"),
        ("hydra.launcher.num_cpus=-1", "num_cpus"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(tmp_path: Path, override: str, said: str) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    finished = multirun(tmp_path, "x=1", override, environment={})
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert said in line


def test_without_ray_the_launcher_is_refused_in_one_line(tmp_path: Path) -> None:
    finished = multirun(tmp_path, "x=1", environment={"WITHOUT_RAY": "1"})
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert "speakerquant[cluster]" in line
