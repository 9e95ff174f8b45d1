"""A search is recorded as one MLflow parent run, however many commands work on its study."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.entities import LifecycleStage, Run, ViewType
from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from speakerquant.errors import UserError, first_line
from speakerquant.files import atomic_path
from speakerquant.measuring.result import MASK_PREFIX
from speakerquant.search.application import Observer
from speakerquant.search.history import result_of
from speakerquant.search.ledger import Ledger
from speakerquant.search.space import Space
from speakerquant.tracking.client import IMPATIENT, Tracking, mlflow_settings
from speakerquant.tracking.recorded_runs import children
from speakerquant.tracking.runs import DIED, PARENT_FILE, STUDY_TAG, SUMMARY, TRIALS_TAG, TrackedRun
from speakerquant.tracking.views import share_masks

log = logging.getLogger(__name__)

_TRIAL_TAG = "trial"
_IDENTITY_TAG = "study_identity"


def trial_tags(study: str, trial: int) -> dict[str, str]:
    """The tags of the run that evaluates a trial."""
    return {STUDY_TAG: study, _TRIAL_TAG: str(trial)}


class StudyRun(Observer):
    """The parent run of a study, which is opened by the first command and adopted by the others.

    Args:
        tracking: The experiment.
        ledgers: The ledger of the search, and that of the final evaluation if there is one.
        folder: The sweep folder, where the jobs find the parent run.

    Raises:
        ServiceError: a run cannot be recorded.
        MlflowException: the store does not answer.
    """

    def __init__(self, tracking: Tracking, ledgers: Sequence[Ledger], folder: Path) -> None:
        self._tracking = tracking
        self._ledgers = ledgers
        self._folder = folder
        self._identity = ledgers[0].identity
        self._own: TrackedRun | None = None
        self._answered = True
        self._adopt()
        self._close_orphans()
        self._count_missing()
        log.info("recorded as MLflow run %s", self._run.run_id)

    def before_batch(self) -> None:
        # Two first commands may both have opened a run: agree before a job is in one. Later, another
        # command that was stopped may have closed it, or a user deleted it.
        with self._tolerant():
            self._adopt()

    def updated(self, files: Sequence[Path], recommended: Mapping[str, Any] | None) -> None:
        with self._tolerant():
            self._run.restore()
            report = "".join(path.read_text(encoding="utf-8") for path in files if path.suffix == ".md")
            metrics = {name: recommended[name] for name in SUMMARY if recommended and name in recommended}
            ledger, completed = self._ledgers[0], self._ledgers[0].history().completed
            searched = _searched(ledger.space, completed)
            link = share_masks(self._tracking, self._run.run_id, searched, ledger.name)
            tags = {TRIALS_TAG: str(len(completed))}
            self._run.log(tags=tags, metrics=metrics, note=f"{link}\n\n{report}")
            for path in files:
                self._run.log_artifact(path)

    def closed(self, failure: str | None) -> None:
        with self._tolerant():
            self._adopt()
            try:
                self._close_orphans()
                if self._running_trials():
                    return  # of other commands, whose last one closes the run
            except (StorageInternalError, SQLAlchemyError) as error:
                failure = failure or first_line(error)
            if failure is None:
                self._run.finish()
            else:
                self._run.fail(failure)

    def _adopt(self) -> None:
        """Choose the oldest of the study's runs, as every process does; remove our own if it is another.

        Those that were deleted come last: one of them is restored if there is no other.
        """
        name, identity = self._ledgers[0].name, self._identity
        own = self._own
        if not self._candidates(identity):
            tags = {STUDY_TAG: name, _IDENTITY_TAG: identity}
            own = self._own = TrackedRun.start(self._tracking, name, tags=tags)
        chosen = self._candidates(identity)[0].info.run_id
        if own and own.run_id != chosen:
            self._tracking.client.delete_run(own.run_id)
            self._own = None
        self._run = TrackedRun(self._tracking, chosen)
        self._run.reopen()
        with atomic_path(self._folder / PARENT_FILE) as part:  # which jobs of another command may be reading
            part.write_text(chosen, encoding="utf-8")

    def _candidates(self, identity: str) -> list[Run]:
        runs = self._tracking.client.search_runs(
            [self._tracking.experiment_id],
            filter_string=f"tags.{_IDENTITY_TAG} = '{identity}'",
            run_view_type=ViewType.ALL,
        )
        return sorted(
            runs,
            key=lambda run: (
                run.info.lifecycle_stage == LifecycleStage.DELETED,
                run.info.start_time,
                run.info.run_id,
            ),
        )

    def _completed(self) -> set[str]:
        """The numbers of the trials that have a result, repeats left out."""
        return {str(trial.number) for trial in self._ledgers[0].history().completed}

    def _count_missing(self) -> None:
        """Say how many trials have their runs elsewhere, if any: the study and its record have parted."""
        name, completed = self._ledgers[0].name, self._completed()
        runs = children(self._tracking, self._run.run_id)
        here = {run.data.tags.get(_TRIAL_TAG) for run in runs if run.data.tags.get(STUDY_TAG) == name}
        if missing := len(completed - here):
            log.warning(
                "%d of the %d trials of study %s have no run here in MLflow: they were deleted, or recorded "
                "in another experiment or store; the search knows their results all the same",
                missing,
                len(completed),
                name,
            )

    def _running_trials(self) -> set[tuple[str, str]]:
        return {
            (ledger.name, str(trial.number))
            for ledger in self._ledgers
            for trial in ledger.history().running.values()
        }

    def _close_orphans(self) -> None:
        """Close the runs that are still open although their trials have ended."""
        for ledger in self._ledgers:
            ledger.release_dead()
        runs = children(self._tracking, self._run.run_id)
        running = self._running_trials()  # read after the runs: a trial is claimed before its run is opened
        studies = {ledger.name for ledger in self._ledgers}  # others may evaluate finally on another list
        for run in runs:
            trial = (run.data.tags.get(STUDY_TAG, ""), run.data.tags.get(_TRIAL_TAG, ""))
            is_left = trial[0] in studies and trial not in running
            if run.info.status == "RUNNING" and is_left and self._is_open(run):
                TrackedRun(self._tracking, run.info.run_id).fail(DIED)

    def _is_open(self, run: Run) -> bool:
        """Whether the run is open by now: its trial may have closed it since the runs were listed."""
        return bool(self._tracking.client.get_run(run.info.run_id).info.status == "RUNNING")

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Log failures of MLflow and go on: the results are safe in the study and in the folder.

        A server that was waited for in vain is not waited for again, until it answers.
        """
        try:
            with mlflow_settings({} if self._answered else IMPATIENT):
                yield
            self._answered = True
        except (UserError, MlflowException, OSError) as error:
            self._answered = False
            log.warning("MLflow could not record the search: %s", first_line(error))


def _searched(space: Space, completed: Sequence[FrozenTrial]) -> list[str]:
    """Names of the parameters that trials differ in; masks are recorded unit by unit."""
    axes = [name.lstrip("+") for name in space.axes]
    units = result_of(completed[0]).get("mask", {}) if completed else {}
    return [
        *(name for name in axes if not name.startswith(MASK_PREFIX)),
        *(f"{MASK_PREFIX}{unit}" for unit in units),
    ]
