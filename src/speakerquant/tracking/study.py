"""A search is one MLflow parent run, whichever and however many commands work on its study."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from speakerquant.errors import first_line
from speakerquant.search.application import Observer
from speakerquant.search.ledger import Ledger
from speakerquant.tracking.client import Tracking
from speakerquant.tracking.history import children
from speakerquant.tracking.runs import TrackedRun
from speakerquant.tracking.sweep import PARENT_FILE

log = logging.getLogger(__name__)

_STUDY_TAG = "study"
_TRIAL_TAG = "trial"
_IDENTITY_TAG = "study_identity"


def trial_tags(study: str, trial: int) -> dict[str, str]:
    """Tags of the run that evaluates a trial."""
    return {_STUDY_TAG: study, _TRIAL_TAG: str(trial)}


class StudyRun(Observer):
    """The parent run of a study: adopted if there is one, else opened.

    Args:
        tracking: The experiment.
        ledgers: The study's, and that of the final evaluation if there is one.
        folder: The sweep's, where the jobs find the parent run.

    Raises:
        MlflowException: the store does not answer.
    """

    def __init__(self, tracking: Tracking, ledgers: Sequence[Ledger], folder: Path) -> None:
        self._tracking = tracking
        self._ledgers = ledgers
        self._folder = folder
        self._identity = ledgers[0].identity
        self._own: TrackedRun | None = None
        self._adopt()
        self._close_orphans()

    def before_batch(self) -> None:
        # Two first commands may both have opened a run: agree before a job is in one. Later, another
        # command that was stopped may have closed it, or a user deleted it.
        with _tolerant():
            self._adopt()

    def updated(self, files: Sequence[Path]) -> None:
        with _tolerant():
            for path in files:
                self._run.log_artifact(path)

    def closed(self, failure: str | None) -> None:
        with _tolerant():
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
        """Every process chooses the oldest of the study's runs, and removes its own if that is another."""
        name, identity = self._ledgers[0].name, self._identity
        own = self._own
        if not self._candidates(identity):
            tags = {_STUDY_TAG: name, _IDENTITY_TAG: identity}
            own = self._own = TrackedRun.start(self._tracking, name, tags=tags)
        chosen = self._candidates(identity)[0].info.run_id
        if own and own.run_id != chosen:
            self._tracking.client.delete_run(own.run_id)
            self._own = None
        self._run = TrackedRun(self._tracking, chosen)
        self._run.reopen()
        (self._folder / PARENT_FILE).write_text(chosen)

    def _candidates(self, identity: str) -> list[Run]:
        runs = self._tracking.client.search_runs(
            [self._tracking.experiment_id],
            filter_string=f"tags.{_IDENTITY_TAG} = '{identity}'",
            run_view_type=ViewType.ACTIVE_ONLY,
        )
        return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))

    def _running_trials(self) -> set[tuple[str, str]]:
        return {
            (ledger.name, str(trial.number))
            for ledger in self._ledgers
            for trial in ledger.history().running.values()
        }

    def _close_orphans(self) -> None:
        """Close the runs of trials that have ended without closing them."""
        for ledger in self._ledgers:
            ledger.release_dead()
        runs = children(self._tracking, self._run.run_id)
        running = self._running_trials()  # read after the runs: a trial is claimed before its run is opened
        for run in runs:
            trial = (run.data.tags.get(_STUDY_TAG, ""), run.data.tags.get(_TRIAL_TAG, ""))
            if run.info.status == "RUNNING" and trial not in running and self._is_open(run):
                TrackedRun(self._tracking, run.info.run_id).fail("its process ended without a word")

    def _is_open(self, run: Run) -> bool:
        """Whether it still is: its trial may have ended in good order since the runs were listed."""
        return bool(self._tracking.client.get_run(run.info.run_id).info.status == "RUNNING")


@contextmanager
def _tolerant() -> Iterator[None]:
    """A search does not end because its record has a hiccup: the results are in the study and the folder."""
    try:
        yield
    except (MlflowException, OSError) as error:
        log.warning("MLflow did not take it: %s", first_line(error))
