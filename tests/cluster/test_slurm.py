"""The launchers ``submitit_local`` and, on a real SLURM, ``submitit_slurm`` in a small Hydra application."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from speakerquant.search.history import INTERRUPTED

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="the extra 'cluster' is not installed")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ONE_MACHINE = ROOT / "deploy/slurm/one_machine.sh"

# Notes who evaluated what. When 2 is first evaluated, its job is lost.
PROGRAM = """
import os, signal, subprocess, time
from pathlib import Path
import hydra, submitit
from speakerquant.commands.console_script import hydra_job, run_command

def lose_job():
    if "SLURM_JOB_ID" in os.environ:
        subprocess.run(["scancel", submitit.JobEnvironment().job_id], check=True)
        time.sleep(60)
    os.kill(os.getpid(), signal.SIGKILL)

def evaluate(config):
    with hydra_job():
        with open(f"evaluated_{config.x}", "a") as file:
            file.write(f"{os.getpid()}\\n")
        if config.x == 2 and not Path("lost").exists():
            Path("lost").touch()
            try:
                lose_job()
            finally:
                Path("closed").touch()
        return {"cost": config.x / 3}

if __name__ == "__main__":
    main = hydra.main(config_path=".", config_name="config", version_base="1.3")(evaluate)
    run_command(main)
"""

CONFIG = """
defaults:
  - override hydra/launcher: tried
  - _self_
x: 0
hydra:
  sweep: {dir: sweep}
"""

SEARCH = [
    *("hydra/sweeper=optuna_search", "hydra/sweeper/sampler=brute_force", "x=choice(1,2,3,4)"),
    *("hydra.sweeper.objectives={cost: minimize}", "hydra.sweeper.n_jobs=4"),
    *("hydra.sweeper.storage=study.journal", "hydra.sweeper.study_name=study"),
]


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A SLURM of two nodes; the environment by which its commands find it."""
    if missing := [name for name in ("munged", "slurmctld", "slurmd") if shutil.which(name) is None]:
        pytest.skip(f"{missing[0]} is not installed (apt-get install slurm-wlm munge)")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons must be started as root")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([ONE_MACHINE, "start", folder], check=True)
    yield {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run([ONE_MACHINE, "stop", folder], check=True)


@pytest.fixture(params=["local", "slurm"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """The application as a multirun with a launcher that puts two of its jobs into one of the cluster."""
    environment = request.getfixturevalue("slurm") if request.param == "slurm" else {}
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "config.yaml").write_text(CONFIG)
    options = tmp_path / "hydra/launcher"
    options.mkdir(parents=True)
    # Under another name: Hydra would take hydra-submitit-launcher's option of the same for its schema.
    shutil.copy(ROOT / f"conf/hydra/launcher/submitit_{request.param}.yaml", options / "tried.yaml")
    needs = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"] if request.param == "slurm" else []

    def multirun(*overrides: str) -> subprocess.CompletedProcess[str]:
        words = ["-m", "hydra.launcher.masks_per_job=2", *needs, *overrides]
        return subprocess.run(
            [sys.executable, "program.py", *words],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return multirun


def evaluations(folder: Path) -> dict[int, list[str]]:
    """For every point the processes that evaluated it."""
    return {x: (folder / f"evaluated_{x}").read_text().split() for x in (1, 2, 3, 4)}


def test_a_search_asks_again_what_its_cluster_has_lost(run: Run, tmp_path: Path) -> None:
    finished = run(*SEARCH)
    assert finished.returncode == 0, finished.stderr
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    trials = optuna.load_study(study_name="study", storage=storage).trials
    values = {trial.params["x"]: trial.value for trial in trials if trial.state is TrialState.COMPLETE}
    assert values == {x: x / 3 for x in (1, 2, 3, 4)}
    others = [trial for trial in trials if trial.state is not TrialState.COMPLETE]
    assert 2 in [trial.params["x"] for trial in others]
    assert all(INTERRUPTED in trial.user_attrs for trial in others)
    assert [len(processes) for processes in evaluations(tmp_path).values()] == [1, 2, 1, 1]


def test_a_lost_job_ends_a_multirun_in_one_line_and_costs_no_other_result(run: Run, tmp_path: Path) -> None:
    finished = run("x=1,2,3,4")
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert line.startswith("error: lost: ") and line.endswith(": x=2")
    processes = evaluations(tmp_path)
    assert [len(each) for each in processes.values()] == [1, 1, 1, 1]
    assert processes[1] == processes[2] != processes[3] == processes[4]


@pytest.mark.parametrize("run", ["slurm"], indirect=True)
def test_a_cancelled_job_ends_in_order(run: Run, tmp_path: Path) -> None:
    run("x=2")
    assert (tmp_path / "closed").exists()


@pytest.mark.parametrize("run", ["slurm"], indirect=True)
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+hydra.launcher.additional_parameters.partition=nowhere", "invalid partition specified: nowhere"),
        ("hydra.launcher.cpus_per_task=1000", "more processors requested than permitted"),
        ("hydra.launcher.masks_per_job=0", "hydra.launcher.masks_per_job=0"),
        ("hydra.launcher.timeout_min=soon", "timeout_min"),
    ],
)
def test_what_the_cluster_cannot_do_is_refused_in_one_line(run: Run, override: str, said: str) -> None:
    finished = run("x=1", override)
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert said in line.lower()


@pytest.mark.parametrize("run", ["slurm"], indirect=True)
def test_without_the_commands_of_slurm_the_launcher_is_refused_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    finished = run("x=1")
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert "sbatch" in line and "PATH" in line
