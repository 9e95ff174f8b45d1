"""A small Hydra application, and the clusters that its jobs can be given to."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import free_port

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

# Notes who evaluated what. When 2 is first evaluated, its job is lost.
PROGRAM = """
import os, signal, subprocess, sys, time
from pathlib import Path
import hydra
from speakerquant.commands.console_script import hydra_job, run_command

def lose_job():
    if "SLURM_JOB_ID" in os.environ:
        import submitit
        subprocess.run(["scancel", submitit.JobEnvironment().job_id], check=True)
        time.sleep(60)
    time.sleep(1)  # in which Ray hands over what the job before has returned
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
    for package in os.environ.get("WITHOUT", "").split():
        sys.modules[package] = None
    run_command(hydra.main(config_path=".", config_name="config", version_base="1.3")(evaluate))
"""

CONFIG = """
defaults:
  - override hydra/launcher: tried
  - _self_
x: 0
hydra:
  sweep: {dir: sweep}
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A SLURM of two nodes; the environment by which its commands find it."""
    if missing := [name for name in ("munged", "slurmctld", "slurmd") if shutil.which(name) is None]:
        pytest.skip(f"{missing[0]} is not installed (apt-get install slurm-wlm munge)")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons must be started as root")
    folder = tmp_path_factory.mktemp("slurm")
    script = DEPLOY / "slurm/one_machine.sh"
    subprocess.run([script, "start", folder], check=True)
    yield {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run([script, "stop", folder], check=True)


@pytest.fixture(scope="session")
def ray() -> Iterator[dict[str, str]]:
    """A Ray of two nodes; the environment by which commands find it."""
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "RAY_PORT": str(free_port())}
    script = DEPLOY / "ray/one_machine.sh"
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # pytest's are too long for Ray's sockets
        subprocess.run([script, "start", folder], env=environment, check=True)
        exports = (Path(folder) / "environment").read_text().splitlines()
        yield dict(line.removeprefix("export ").split("=", 1) for line in exports)
        subprocess.run([script, "stop", folder], env=environment, check=True)


@pytest.fixture
def run(launcher: str, request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """The application as a multirun with a launcher that puts two of its jobs into one of the cluster."""
    if launcher.startswith("submitit"):
        pytest.importorskip("submitit", reason="the extra 'cluster' is not installed")
    clusters = {"submitit_slurm": "slurm", "ray": "ray"}
    found_by = request.getfixturevalue(clusters[launcher]) if launcher in clusters else {}
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "config.yaml").write_text(CONFIG)
    options = tmp_path / "hydra/launcher"
    options.mkdir(parents=True)
    # Under another name: Hydra would take hydra-submitit-launcher's option of the same for its schema.
    shutil.copy(ROOT / f"conf/hydra/launcher/{launcher}.yaml", options / "tried.yaml")
    needs = (
        ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"] if launcher == "submitit_slurm" else []
    )

    def multirun(*overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
        words = ["-m", "hydra.launcher.masks_per_job=2", *needs, *overrides]
        return subprocess.run(
            [sys.executable, "program.py", *words],
            cwd=tmp_path,
            env={**os.environ, **found_by, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return multirun
