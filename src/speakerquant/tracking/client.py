"""The connection to MLflow."""

import itertools
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError
from urllib3.util import Retry

from speakerquant.errors import ServiceError, UserError, first_line, is_being_created

log = logging.getLogger(__name__)

_SQLITE = "sqlite:///"
_REFUSED = (401, 403)  # HTTP status codes
_CREATION_RETRIES, _CREATION_SECONDS = 10, 0.3
# MLflow 3's UI shows the runs of such experiments; it would take others for collections of traces.
_AS_MODEL_DEVELOPMENT = {"mlflow.experimentKind": "custom_model_development"}
# By default the client retries for four minutes when a server does not answer.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


@dataclass(frozen=True)
class Tracking:
    """An experiment in an MLflow store."""

    client: MlflowClient
    experiment_id: str


def connect(uri: str, experiment: str, patient: bool = False) -> Tracking:
    """Open the store and the experiment, which are made on first use, by several processes at once too.

    Args:
        uri: The store.
        experiment: Its name.
        patient: Whether a server that does not answer is being restarted, and worth minutes of waiting, as
            amid a search; otherwise it is given up after at most 15 s.

    Raises:
        ServiceError: the store does not answer, cannot be opened, or refuses the credentials.
        UserError: its folder cannot be made, or the experiment was deleted.
    """
    if uri == os.environ.get("MLFLOW_TRACKING_URI"):
        log.info("runs go to %s, as MLFLOW_TRACKING_URI says", uri)
    logging.getLogger("urllib3.connectionpool").addFilter(_announce_first_retry)
    artifacts = _prepare_sqlite(uri)
    try:
        with mlflow_settings({} if patient else IMPATIENT):  # later requests may take longer
            client, existing = _opened(uri, experiment, artifacts)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise ServiceError(f"tracking.uri={uri}: {_advice(uri, error)}") from None
    if existing.lifecycle_stage == LifecycleStage.DELETED:
        raise UserError(
            f"tracking.experiment={experiment}: this experiment was deleted; restore it or use another name"
        )
    return Tracking(client, existing.experiment_id)


def is_file(uri: str) -> bool:
    """Whether a store is a SQLite file."""
    return uri.startswith("sqlite")


def is_server(uri: str) -> bool:
    """Whether a store is an MLflow server, which has a UI of its own."""
    return uri.startswith(("http://", "https://"))


def runs_address(server: str, experiment_id: str, view: str | None = None) -> str:
    """Where the UI of an MLflow server shows the runs of an experiment, in a view set up for them."""
    # MLflow 3 would begin with its view of traces.
    address = f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    return f"{address}&viewStateShareKey={view}" if view else address


def _opened(uri: str, experiment: str, artifacts: str | None) -> tuple[MlflowClient, Experiment]:
    """The store, and the experiment that is in it by now, whoever of several processes made them."""
    for attempt in itertools.count(1):
        try:
            with _first_user(uri):
                client = MlflowClient(uri)
                if existing := client.get_experiment_by_name(experiment):
                    return client, existing
                client.create_experiment(experiment, artifacts, _AS_MODEL_DEVELOPMENT)
        except (MlflowException, SQLAlchemyError) as error:
            if attempt > _CREATION_RETRIES or not is_being_created(error):
                raise
            time.sleep(_CREATION_SECONDS)
    raise AssertionError


def _announce_first_retry(record: logging.LogRecord) -> bool:
    """Log once, and in plain words, that a server does not answer a request, instead of at every retry."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    if not (arguments and isinstance(arguments[0], Retry)):
        return True
    record.msg, record.args = "the MLflow server does not answer; waiting for it (%s)", (arguments[1],)
    return len(arguments[0].history) == 1


@contextmanager
def _first_user(uri: str) -> Iterator[None]:
    """Keep other processes out while a SQLite file may get its tables: MLflow makes them without a lock."""
    if not uri.startswith(_SQLITE):
        yield
        return
    path = Path(uri.removeprefix(_SQLITE)).absolute()
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with suppress(OSError):  # where nothing can be written, nothing is made
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _advice(uri: str, error: Exception) -> str:
    said = str(error)
    if "out-of-date database schema" in said:
        return f"its tables are of an older MLflow; bring them up to date with: mlflow db upgrade {uri}"
    if "://" not in uri or uri.startswith("file:"):
        return "folders are not written by this MLflow any more; use a database, such as sqlite:///mlflow.db"
    if isinstance(error, MlflowException) and error.get_http_status_code() in _REFUSED:  # type: ignore[no-untyped-call]
        return (
            f"the MLflow server refuses the request ({first_line(error)[:200]}); check "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and the --allowed-hosts of the server"
        )
    return f"the MLflow store does not answer ({first_line(error)[:200]}); start it or check the address"


@contextmanager
def mlflow_settings(settings: Mapping[str, str]) -> Iterator[None]:
    """MLflow's environment variables during the block, those left alone that the user has set."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update({name: value for name, value in settings.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def _prepare_sqlite(uri: str) -> str | None:
    """Make the folder of a SQLite file; the address of the artifacts beside it, none for other stores."""
    if not uri.startswith(_SQLITE):
        return None
    folder = Path(uri.removeprefix(_SQLITE)).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"tracking.uri={uri}: cannot write {folder} ({error.strerror}); choose another folder"
        ) from None
    return (folder / "artifacts").as_uri()
