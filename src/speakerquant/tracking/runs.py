"""MLflow runs that always end: FINISHED, or FAILED with the reason."""

import json
import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.file_utils import get_local_path_or_none
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_RUN_NOTE,
)
from sqlalchemy.exc import SQLAlchemyError

from speakerquant.credentials import hide_credentials
from speakerquant.errors import ServiceError, first_line, is_being_created
from speakerquant.measuring.engine_metrics import ENGINE_SIZE, SIZE_RATIO
from speakerquant.statistics.error_metrics import EER
from speakerquant.tracking.client import IMPATIENT, Tracking, mlflow_settings

log = logging.getLogger(__name__)

PARENT_FILE = ".mlflow_parent_run"
"""In a sweep folder: the id of the parent run, where the jobs of any process find it."""

FAILURE_TAG = "failure"
COMMAND_TAG = "command"
STUDY_TAG = "study"
MASK = "mask"
"""Parameter: the mask as it was given, in words."""

TRIALS_TAG = "trials"
"""Of a search: how many of its trials have a result, wherever their runs are."""

JOBS_TAG = "jobs"
"""Of a multirun: how many runs were asked for."""

UNREACHED = "unreached"
"""Parameter: which weights no mask reaches, in words."""

ENVIRONMENT_TAG = "environment."
"""Before the name of a version or device."""

SUMMARY = tuple(
    metric.name for metric in (ENGINE_SIZE, SIZE_RATIO, EER, EER.delta, EER.delta.low, EER.delta.high)
)
"""Names of metrics of the best mask that its multirun or search has too."""

DIED = "its process died without closing the run"
"""Reason of a run that somebody else had to close."""

_VALUE_LIMIT = 5000  # characters, below every store's own
_CUT = "\n\n… (the rest is in the artifacts)"
_NAME_LIMIT = 250  # of a run's name; SQLite would take more
_DIGEST_LIMIT = 36  # MLflow's own


@dataclass(frozen=True)
class DataSet:
    """What a run was measured on.

    Attributes:
        name: As people call it.
        digest: Changes with its content.
        source: Where it is.
        context: What it was used for, such as ``testing``.
        counts: Numbers of what is in it, by name.
    """

    name: str
    digest: str
    source: str
    context: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class TrackedRun:
    """An MLflow run that can be logged to."""

    tracking: Tracking
    run_id: str

    @classmethod
    def start(
        cls,
        tracking: Tracking,
        name: str,
        parent_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> "TrackedRun":
        """Open a run, under a parent if there is one; MLflow adds user, program and commit."""
        all_tags = {**resolve_tags(), MLFLOW_RUN_NAME: _short(name), **(tags or {})}
        if parent_id:
            all_tags[MLFLOW_PARENT_RUN_ID] = parent_id
        with _recording(tracking, "a run"):
            run = tracking.client.create_run(tracking.experiment_id, tags=all_tags)
        return cls(tracking, run.info.run_id)

    def finish(self) -> None:
        """Close the run as FINISHED."""
        with self._recording():
            self.tracking.client.set_terminated(self.run_id, "FINISHED")

    def fail(self, reason: str) -> None:
        """Close the run as FAILED, with the reason as a tag."""
        with self._recording():
            self.tracking.client.set_tag(self.run_id, FAILURE_TAG, hide_credentials(reason)[:_VALUE_LIMIT])
            self.tracking.client.set_terminated(self.run_id, "FAILED")

    def restore(self) -> None:
        """Put the run back that a user has deleted in MLflow although it is still written to, and say so."""
        with self._recording():
            run = self.tracking.client.get_run(self.run_id)
            if run.info.lifecycle_stage == LifecycleStage.DELETED:
                self.tracking.client.restore_run(self.run_id)
                log.warning("MLflow run %s (%s) was deleted; restored", run.info.run_name, self.run_id)

    def reopen(self) -> None:
        """Set the run back to RUNNING if it has ended, and restore it if it was deleted."""
        self.restore()
        with self._recording():
            run = self.tracking.client.get_run(self.run_id)
            if FAILURE_TAG in run.data.tags:
                self.tracking.client.delete_tag(self.run_id, FAILURE_TAG)
            if run.info.status != "RUNNING":
                self.tracking.client.update_run(self.run_id, status="RUNNING")

    def rename(self, name: str) -> None:
        """Give the run another name."""
        with self._recording():
            self.tracking.client.update_run(self.run_id, name=_short(name))

    def log_data_set(self, data_set: DataSet) -> None:
        """Record what the run was measured on."""
        profile = json.dumps(data_set.counts)
        recorded = Dataset(
            data_set.name, data_set.digest[:_DIGEST_LIMIT], "local", data_set.source, profile=profile
        )
        context = InputTag(MLFLOW_DATASET_CONTEXT, data_set.context)
        inputs = [DatasetInput(recorded, [context])]
        with self._recording():
            try:
                self.tracking.client.log_inputs(self.run_id, inputs)
            except MlflowException as error:
                if not is_being_created(error):
                    raise
                self.tracking.client.log_inputs(
                    self.run_id, inputs
                )  # with the entry that another run has made

    def log(
        self,
        *,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        note: str | None = None,
        step: int = 0,
    ) -> None:
        """Log what is known, together: each call is a transaction of the store.

        Args:
            params: Parameters, logged without passwords; long values are cut to what every store takes, None
                is left out.
            tags: Tags, cut likewise.
            metrics: Numbers.
            note: What the run is, in Markdown, where MLflow shows it.
            step: Of the numbers.
        """
        shown = {
            key: hide_credentials(f"{key}={value}").removeprefix(f"{key}=")
            for key, value in (params or {}).items()
            if value is not None
        }
        noted = {} if note is None else {MLFLOW_RUN_NOTE: _whole_lines(note)}
        now = int(time.time() * 1000)
        with self._recording():
            self.tracking.client.log_batch(
                self.run_id,
                metrics=[Metric(key, value, now, step) for key, value in (metrics or {}).items()],
                params=[Param(key, value[:_VALUE_LIMIT]) for key, value in shown.items()],
                tags=[RunTag(key, value[:_VALUE_LIMIT]) for key, value in {**(tags or {}), **noted}.items()],
            )

    def log_artifact(self, path: Path) -> None:
        """Copy a file to the run's artifacts."""
        with self._recording(f"the artifact {path}"):
            self.tracking.client.log_artifact(self.run_id, str(path))

    def artifact_folder(self) -> Path | None:
        """Where the run's artifacts are files that this machine reaches; none if they are elsewhere."""
        with self._recording():
            address = self.tracking.client.get_run(self.run_id).info.artifact_uri
        folder = get_local_path_or_none(address)  # type: ignore[no-untyped-call]
        return Path(folder) if folder else None

    def _recording(self, what: str = "the run") -> AbstractContextManager[None]:
        return _recording(self.tracking, what)


def _whole_lines(note: str) -> str:
    """As many lines of a note as every store takes."""
    if len(note) <= _VALUE_LIMIT:
        return note
    kept, _, _ = note[: _VALUE_LIMIT - len(_CUT)].rpartition("\n")
    return kept + _CUT


def _short(name: str) -> str:
    """A run's name as every store takes it."""
    return name if len(name) <= _NAME_LIMIT else f"{name[: _NAME_LIMIT - 1]}…"


@contextmanager
def _recording(tracking: Tracking, what: str) -> Iterator[None]:
    """Say in one line that the store has no room, or does not answer any more."""
    try:
        with _undisturbed(tracking):
            yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise ServiceError(
            f"tracking.uri: MLflow could not record {what} ({first_line(error)[:200]}); "
            "what was measured is in the run's folder"
        ) from None


@contextmanager
def _undisturbed(tracking: Tracking) -> Iterator[None]:
    """Let Ctrl-C and the like wait for the end of the block: a transaction cut short keeps a database locked.

    A server is no such database, and may keep a command waiting for long.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or tracking.client.tracking_uri.startswith("http"):
        yield
        return
    waiting: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: waiting.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for arrived in waiting:  # the first that is not ignored ends the command
            signal.raise_signal(arrived)


@contextmanager
def tracked_run(
    tracking: Tracking, name: str, parent_id: str | None = None, tags: Mapping[str, str] | None = None
) -> Iterator[TrackedRun]:
    """A run that is open during the block; any exception closes it as FAILED and is raised on."""
    run = TrackedRun.start(tracking, name, parent_id, tags)
    try:
        yield run
    except BaseException as error:
        # A store that died is neither what the user must hear first nor worth waiting for once more.
        with suppress(ServiceError), mlflow_settings(IMPATIENT):
            stopped = isinstance(error, SystemExit)  # whose text is a number
            run.fail("it was stopped" if stopped else str(error) or type(error).__name__)
        raise
    run.finish()


def close_dead_run(tracking: Tracking, run_id: str) -> None:
    """Close a run as FAILED if it is still open: its process is dead."""
    with suppress(MlflowException, ServiceError):  # it was deleted, or is in another store
        with _undisturbed(tracking):
            is_open = tracking.client.get_run(run_id).info.status == "RUNNING"
        if is_open:
            TrackedRun(tracking, run_id).fail(DIED)
