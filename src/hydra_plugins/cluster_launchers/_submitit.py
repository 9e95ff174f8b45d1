"""Several Hydra jobs in one job of a cluster, and what becomes of them when the cluster loses it."""

import contextlib
import copy
import io
import json
import logging
import shutil
import signal
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import submitit
from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from submitit.core.utils import FailedJobError, UncompletedJobError

from hydra_plugins.cluster_launchers import _slurm_queue
from hydra_plugins.cluster_launchers._batches import HydraJob, batch_size, in_batches
from hydra_plugins.cluster_launchers._lost_job import LostJob
from speakerquant.errors import UserError, first_line
from speakerquant.files import atomic_path

log = logging.getLogger(__name__)

_RESULT_SECONDS = 1.0  # between two looks for results
_QUEUE_SECONDS = 5.0  # between two questions to the cluster
_FILE_SYSTEM_SECONDS = 5.0  # so much later than the end of its job a result may be seen on another host


_Job = submitit.Job[list[JobReturn]]


class Batches(BaseSubmititLauncher):
    """What the launchers do, with their heavy imports.

    Args:
        settings: Those of ``conf/hydra/launcher/``.

    Raises:
        UserError: a setting is out of range, or the cluster's commands are missing.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._size = batch_size(self.params.pop("masks_per_job"))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run Hydra jobs, some of them together in one job of the cluster.

        Raises:
            UserError: the cluster refused the jobs.
        """
        batches = in_batches(job_overrides, initial_job_idx, self._size)
        jobs = self._submit(batches)
        for job, batch in zip(jobs, batches, strict=True):
            for each in batch:
                words = " ".join(filter_overrides(each.overrides))
                log.info("\t#%d in %s job %s: %s", each.number, self._EXECUTOR, job.job_id, words)
        try:
            self._wait(jobs)
        except BaseException:
            for job in jobs:
                job.cancel(check=False)
            raise
        return [each for job, batch in zip(jobs, batches, strict=True) for each in self._returns(job, batch)]

    def run_batch(self, batch: Sequence[HydraJob], state: Any) -> list[JobReturn]:
        """In a job of the cluster: run Hydra jobs, except those that it had run before it was requeued."""
        # submitit asks for this signal some time before the limit; until SIGTERM comes, the time is ours.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        _restore(state)
        folder = submitit.JobEnvironment().paths.folder
        return [_recalled(job, folder) or self._run(job, folder, state) for job in batch]

    def _run(self, job: HydraJob, folder: Path, state: Any) -> JobReturn:
        returned: JobReturn = self(job.overrides, "hydra.sweep.dir", job.number, str(job.number), state)
        if returned.status is JobStatus.COMPLETED:
            # What JSON cannot express is lost with its job.
            with contextlib.suppress(TypeError), atomic_path(_record(job, folder)) as part:
                part.write_text(json.dumps(returned._return_value), encoding="utf-8")
        return returned

    def _submit(self, batches: Sequence[Sequence[HydraJob]]) -> list[_Job]:
        executor = submitit.AutoExecutor(self.params["submitit_folder"], cluster=self._EXECUTOR)
        try:
            executor.update_parameters(**self._parameters())
        except (AssertionError, NameError, TypeError, ValueError) as error:  # what submitit raises
            raise UserError(f"hydra.launcher: {first_line(error)}") from None
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # where submitit repeats what it raises
                return executor.map_array(self.run_batch, batches, [Singleton.get_state()] * len(batches))
        except FailedJobError as error:
            reason = first_line(error).removeprefix("sbatch: error: ")
            raise UserError(
                f"hydra.launcher: sbatch refused the job ({reason}); sinfo lists partitions and nodes"
            ) from None

    def _parameters(self) -> dict[str, Any]:
        """Settings by submitit's names, of which those of one cluster begin with its name."""
        shared = {field.name for field in fields(BaseQueueConf)}
        return {
            name if name in shared else f"{self._EXECUTOR}_{name}": value
            for name, value in self.params.items()
            if name != "submitit_folder"
        }

    def _wait(self, jobs: Sequence[_Job]) -> None:
        """Wait until every job has left its result, or has ended without."""
        waiting, ended_since, asked = list(jobs), dict[str, float](), float("-inf")
        while waiting := [job for job in waiting if not _has_result(job)]:
            now = time.monotonic()
            if now - asked >= _QUEUE_SECONDS:
                asked = now
                ended_since = {each: ended_since.get(each, now) for each in self._ended(waiting)}
            waiting = [
                job for job in waiting if now - ended_since.get(job.job_id, now) < _FILE_SYSTEM_SECONDS
            ]
            time.sleep(_RESULT_SECONDS)

    @abstractmethod
    def _ended(self, jobs: Sequence[_Job]) -> list[str]:
        """Ids of the jobs that run no more."""

    @abstractmethod
    def _end(self, job: _Job) -> tuple[str, bool]:
        """How a job without results ended, and whether by itself, so that it would end so again."""

    def _returns(self, job: _Job, batch: Sequence[HydraJob]) -> list[JobReturn]:
        if _has_result(job):
            with contextlib.suppress(UncompletedJobError):  # it failed before or between its Hydra jobs
                return job.result()
        recalled = [_recalled(each, job.paths.folder) for each in batch]
        end, by_itself = self._end(job)
        reason = f"{self._EXECUTOR} job {job.job_id}: {end}, see {job.paths.stderr}"
        # Of several it is unknown which one broke the job.
        is_known_cause = by_itself and recalled.count(None) == 1
        make = _failed if is_known_cause else LostJob
        return [known or make(each.overrides, reason) for each, known in zip(batch, recalled, strict=True)]


class LocalBatches(Batches):
    """Batches of Hydra jobs as processes of this machine."""

    _EXECUTOR = "local"

    def _ended(self, jobs: Sequence[_Job]) -> list[str]:
        return [job.job_id for job in jobs if job.done()]

    def _end(self, job: _Job) -> tuple[str, bool]:
        return "ended without a result", _has_result(job)


class SlurmBatches(Batches):
    """Batches of Hydra jobs as jobs of SLURM."""

    _EXECUTOR = "slurm"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if missing := [name for name in _slurm_queue.COMMANDS if shutil.which(name) is None]:
            raise UserError(
                f"hydra/launcher=submitit_slurm: there is no {missing[0]} on PATH; start the command where "
                "jobs are submitted to SLURM, or use hydra/launcher=submitit_local"
            )

    def _parameters(self) -> dict[str, Any]:
        parameters = super()._parameters()
        if cores := parameters.get("cpus_per_task"):
            # Since SLURM 22.05 srun does not take it over from sbatch.
            parameters["slurm_srun_args"] = [f"--cpus-per-task={cores}"]
        return parameters

    def _ended(self, jobs: Sequence[_Job]) -> list[str]:
        unfinished = _slurm_queue.unfinished()
        return [] if unfinished is None else [job.job_id for job in jobs if job.job_id not in unfinished]

    def _end(self, job: _Job) -> tuple[str, bool]:
        state = _slurm_queue.state(job.job_id)
        return state, _slurm_queue.ended_by_itself(state)


def _has_result(job: _Job) -> bool:
    """Whether a job has left its result; the folder is read: for single names NFS has a cache."""
    path = job.paths.result_pickle
    return path.parent.is_dir() and path in path.parent.iterdir()


def _restore(state: Any) -> None:
    """Restore what Hydra knew in the command, without what plugins store when they are imported once more."""
    store = state["instances"][ConfigStore]
    options = copy.deepcopy(store.repo)
    Singleton.set_state(state)
    store.repo = options


def _record(job: HydraJob, folder: Path) -> Path:
    """In the folder of the cluster's job: what a Hydra job returned."""
    return folder / f"{job.number}.json"


def _recalled(job: HydraJob, folder: Path) -> JobReturn | None:
    """What a Hydra job returned in a job of the cluster that did not get to its end."""
    record = _record(job, folder)
    if not record.exists():
        return None
    return JobReturn(
        job.overrides,
        status=JobStatus.COMPLETED,
        _return_value=json.loads(record.read_text(encoding="utf-8")),
    )


def _failed(overrides: Sequence[str], reason: str) -> JobReturn:
    return JobReturn(overrides, status=JobStatus.FAILED, _return_value=UserError(reason))
