"""The launchers, on a real SLURM and a real Ray of two nodes each."""

import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from speakerquant.search.history import INTERRUPTED

from .conftest import Run

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

LAUNCHERS = ("submitit_local", "submitit_slurm", "ray")

SEARCH = [
    *("hydra/sweeper=optuna_search", "hydra/sweeper/sampler=brute_force", "x=choice(1,2,3,4)"),
    *("hydra.sweeper.objectives={cost: minimize}", "hydra.sweeper.n_jobs=4"),
    *("hydra.sweeper.storage=study.journal", "hydra.sweeper.study_name=study"),
]


def evaluations(folder: Path) -> dict[int, list[str]]:
    """For every point the processes that evaluated it."""
    return {x: (folder / f"evaluated_{x}").read_text().split() for x in (1, 2, 3, 4)}


@pytest.mark.parametrize("launcher", LAUNCHERS)
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


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_lost_job_ends_a_multirun_in_one_line_and_costs_no_other_result(run: Run, tmp_path: Path) -> None:
    finished = run("x=1,2,3,4")
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert line.startswith("error: lost: ") and line.endswith(": x=2")
    processes = evaluations(tmp_path)
    assert [len(each) for each in processes.values()] == [1, 1, 1, 1]
    assert processes[1] == processes[2] != processes[3] == processes[4]


@pytest.mark.parametrize("launcher", ["submitit_slurm"])
def test_a_cancelled_job_ends_in_order(run: Run, tmp_path: Path) -> None:
    run("x=2")
    assert (tmp_path / "closed").exists()


@pytest.mark.parametrize(
    ("launcher", "override", "said"),
    [
        ("submitit_local", "hydra.launcher.masks_per_job=0", "hydra.launcher.masks_per_job=0"),
        *(
            ("submitit_slurm", override, said)
            for override, said in {
                "+hydra.launcher.additional_parameters.partition=nowhere": "invalid partition",
                "hydra.launcher.cpus_per_task=1000": "more processors requested than permitted",
                "hydra.launcher.timeout_min=soon": "timeout_min",
            }.items()
        ),
        *(
            ("ray", override, said)
            for override, said in {
                "hydra.launcher.masks_per_job=0": "hydra.launcher.masks_per_job=0",
                "hydra.launcher.address=127.0.0.1:1": "127.0.0.1:1",
                "hydra.launcher.address=ray://127.0.0.1:1": "host:port",
                "hydra.launcher.num_cpus=-1": "num_cpus",
                "hydra.launcher.num_gpus=1000": "1000 gpu",
            }.items()
        ),
    ],
)
def test_what_the_cluster_cannot_do_is_refused_in_one_line(
    run: Run, tmp_path: Path, override: str, said: str
) -> None:
    finished = run("x=1", override)
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert said in line.lower()
    assert not (tmp_path / "evaluated_1").exists()


@pytest.mark.parametrize(
    ("launcher", "environment", "said"),
    [
        ("submitit_slurm", {"PATH": str(Path(sys.executable).parent)}, "no sbatch on PATH"),
        ("submitit_local", {"WITHOUT": "submitit"}, "pip install -e '.[cluster]'"),
        ("ray", {"WITHOUT": "ray"}, "pip install -e '.[cluster]'"),
    ],
)
def test_a_launcher_without_what_it_needs_is_refused_in_one_line(
    run: Run, environment: dict[str, str], said: str
) -> None:
    finished = run("x=1", **environment)
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert said in line
