"""What SLURM's controller says of jobs.

submitit asks the accounting instead, which is a database that not every cluster has.
"""

import subprocess

COMMANDS = ("sbatch", "srun", "squeue", "scancel")
"""What submitting, watching and ending jobs needs."""

_BY_ITSELF = {"FAILED", "OUT_OF_MEMORY"}


def unfinished() -> set[str] | None:
    """Ids of this user's jobs that wait or run, of arrays as ``array_index``; None if there is no answer."""
    answer = _squeue("--me", "--array", "--format=%i")
    return None if answer is None else set(answer.split())


def state(job_id: str) -> str:
    """The state of a job, which the controller remembers for some minutes after its end; then ``GONE``."""
    return (_squeue("--states=all", f"--jobs={job_id}", "--format=%T") or "").strip() or "GONE"


def ended_by_itself(state: str) -> bool:
    """Whether the cause lies in what the job ran, and it would end so again."""
    return state in _BY_ITSELF


def _squeue(*options: str) -> str | None:
    finished = subprocess.run(["squeue", "--noheader", *options], capture_output=True, text=True)
    return finished.stdout if finished.returncode == 0 else None
