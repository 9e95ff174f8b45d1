"""The connection to MLflow."""

import itertools
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import get_local_path_or_none
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool
from urllib3.util import Retry

from speakerquant.errors import ServiceError, UserError, first_line, is_being_created
from speakerquant.files import atomic_path

log = logging.getLogger(__name__)

logging.getLogger("mlflow.utils.git_utils").setLevel(logging.ERROR)  # git need not be there

_ARTIFACTS = "artifacts"  # folder beside a SQLite file
_TABLE = "experiments"  # which every database of MLflow has
_SHOWN = 10  # names of experiments in a message
_REFUSED = (401, 403)  # HTTP status codes
_NONE_THERE = (ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE))
_INCOMPLETE = ("already exists", "duplicate column name")  # what MLflow was making when it was broken off
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
        UserError: its folder cannot be made or was moved, the experiment was deleted, or either is empty.
    """
    _refuse_empty(uri=uri, experiment=experiment)
    if uri == os.environ.get("MLFLOW_TRACKING_URI"):
        log.info("runs go to %s, as MLFLOW_TRACKING_URI says", uri)
    with _answering(uri, patient):
        file = _sqlite_file(uri)
        artifacts = _prepared(uri, file.parent) if file else None
        client, existing = _opened(absolute_uri(uri), experiment, file, artifacts)
    check_place(client, existing)
    return _tracking(client, existing)


def find_store(uri: str) -> MlflowClient:
    """Open a store to read what is in it: unlike MLflow, make none where there is none.

    Raises:
        ServiceError: the store does not answer, cannot be opened, or refuses the credentials.
        UserError: there is no such database, or it is not MLflow's.
    """
    _refuse_empty(uri=uri)
    with _answering(uri):
        if (file := _sqlite_file(uri)) is not None and not file.is_file():
            raise UserError(
                f"tracking.uri={uri}: there is no file {file}; give the database that the runs are in, or "
                "start the command in their folder"
            )
        if _is_database(uri) and not inspect(create_engine(uri, poolclass=NullPool)).has_table(_TABLE):
            raise UserError(
                f"tracking.uri={uri}: holds no runs of MLflow; give the database that they are in"
            )
        client = MlflowClient(absolute_uri(uri))
        if is_server(uri):
            client.search_experiments(max_results=1)  # what asks later would wait for minutes
        return client


def find_experiment(uri: str, experiment: str) -> Tracking:
    """Open an experiment to read what is in it.

    Raises:
        ServiceError: as :func:`find_store`.
        UserError: there is no such database or experiment, or it was deleted.
    """
    client = find_store(uri)
    with _answering(uri):
        existing = client.get_experiment_by_name(experiment)
        if existing is None:
            names = [each.name for each in client.search_experiments(max_results=_SHOWN)]
            raise UserError(
                f"tracking.experiment={experiment}: there is none of this name in {uri}; "
                f"there are {', '.join(names)}"
            )
    return _tracking(client, existing)


def find_experiment_of_run(uri: str, run_id: str) -> Tracking:
    """Open the experiment that a run is in, whatever its name is by now.

    Raises:
        ServiceError: as :func:`find_store`.
        UserError: there is no such database or run.
    """
    client = find_store(uri)
    with _answering(uri):
        try:
            return Tracking(client, client.get_run(run_id).info.experiment_id)
        except MlflowException as error:
            if not is_missing(error):
                raise
            raise UserError(
                f"tracking.uri={uri}: there is no run {run_id}; its id is what the command that measured it "
                "ended with, 'MLflow run <id>'"
            ) from None


def absolute_uri(uri: str) -> str:
    """The same store whatever the working directory is by then."""
    file = _sqlite_file(uri)
    return _with_file(uri, file) if file else uri


def is_missing(error: MlflowException) -> bool:
    """Whether MLflow says that there is no such run or experiment, or that none can be called so."""
    return error.error_code in _NONE_THERE


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


def _refuse_empty(**settings: str) -> None:
    """Refuse what MLflow would take for a store of its own choice, or for no name."""
    for name, value in settings.items():
        if not value:
            raise UserError(f"tracking.{name}=: empty; leave it out for the default")


def _sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database."""
    if not is_file(uri):
        return None
    database = make_url(uri).database
    return Path(database).absolute() if database and database != ":memory:" else None


def _with_file(uri: str, file: Path) -> str:
    """The address of another SQLite file, as plain as can be: MLflow makes the folders of its text."""
    address = make_url(uri).set(database=str(file))
    plain = f"{address.drivername}:///{file}"
    return plain if make_url(plain) == address else str(address)


def _is_database(uri: str) -> bool:
    return "://" in uri and make_url(uri).get_backend_name() in DATABASE_ENGINES


def _tracking(client: MlflowClient, experiment: Experiment) -> Tracking:
    """The experiment, unless it was deleted."""
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise ServiceError(
            f"tracking.experiment={experiment.name}: this experiment was deleted; restore it or use another "
            "name"
        )
    return Tracking(client, experiment.experiment_id)


def check_place(client: MlflowClient, experiment: Experiment) -> None:
    """Refuse to part the artifacts from a SQLite file that was moved, and warn where it was copied.

    MLflow keeps where the artifacts of an experiment went at first.

    Raises:
        UserError: that place is not there any more, and the one beside the file is.
    """
    if (file := _sqlite_file(client.tracking_uri)) is None:
        return
    first = Path(get_local_path_or_none(experiment.artifact_location) or "")  # type: ignore[no-untyped-call]
    now = file.parent / _ARTIFACTS
    is_there, was_there = (os.path.exists(each) for each in (now, first))  # noqa: PTH110, denied is not there
    if first.name != now.name or not is_there:
        return
    if not was_there:
        raise UserError(
            f"tracking.experiment={experiment.name}: its artifacts go to {first}, which is not there; "
            f"move {now.parent} back to {first.parent}, make a link to it there, or use another "
            "tracking.experiment"
        )
    if not first.samefile(now):
        _warn_of_copy(experiment.name, first, file)


@cache
def _warn_of_copy(experiment: str, first: Path, file: Path) -> None:
    """Say, once for all jobs of this process, that what is recorded in a copy goes to the original."""
    log.warning(
        "tracking.experiment=%s: its artifacts go to %s, not beside %s, which is a copy; use another "
        "tracking.experiment to leave them alone",
        *(experiment, first, file),
    )


@contextmanager
def _answering(uri: str, patient: bool = False) -> Iterator[None]:
    """Say in one line that the store does not answer in the block, which a patient user waits for longer."""
    logging.getLogger("urllib3.connectionpool").addFilter(_announce_first_retry)
    try:
        with mlflow_settings({} if patient else IMPATIENT):  # later requests may take longer
            yield
    except (MlflowException, SQLAlchemyError, ModuleNotFoundError, OSError) as error:
        raise ServiceError(f"tracking.uri={uri}: {_advice(uri, error)}") from None


def _opened(
    uri: str, experiment: str, file: Path | None, artifacts: str | None
) -> tuple[MlflowClient, Experiment]:
    """The store, and the experiment that is in it by now, whoever of several processes made them."""
    for attempt in itertools.count(1):
        try:
            with _first_user(file):
                if file and artifacts and not file.exists():
                    _make_tables(uri, file, artifacts)
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
def _first_user(file: Path | None) -> Iterator[None]:
    """Keep other processes out while a SQLite file may get its tables: MLflow makes them without a lock."""
    if file is None:
        yield
        return
    lock = FileLock(file.with_name(f".{file.name}.lock"))
    with suppress(OSError):  # where nothing can be written, nothing is made
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make_tables(uri: str, file: Path, artifacts: str) -> None:
    """Have MLflow make a SQLite file beside its place: it cannot go on with what a broken start leaves."""
    with atomic_path(file.resolve()) as part:  # a link stays one
        store = SqlAlchemyStore(_with_file(uri, part), artifacts)  # type: ignore[no-untyped-call]
        store.engine.dispose()


def _advice(uri: str, error: Exception) -> str:
    said = str(error)
    if is_file(uri) and any(sign in said for sign in _INCOMPLETE):
        return (
            f"its tables are incomplete ({first_line(error)[:200]}), as what was broken off leaves them; "
            "delete the file, or if it has runs put a copy from before in its place"
        )
    if "out-of-date database schema" in said:
        return f"its tables are of an older MLflow; bring them up to date with: mlflow db upgrade {uri}"
    if "://" not in uri or uri.startswith("file:"):
        return "folders are not written by this MLflow any more; use a database, such as sqlite:///mlflow.db"
    if isinstance(error, MlflowException) and error.get_http_status_code() in _REFUSED:  # type: ignore[no-untyped-call]
        return (
            f"the MLflow server refuses the request ({first_line(error)[:200]}); check "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and the --allowed-hosts of the server"
        )
    if is_file(uri):
        return (
            f"the file cannot be opened or written ({first_line(error)[:200]}); close the program that holds "
            "it, or choose another"
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


def _prepared(uri: str, folder: Path) -> str:
    """Make the folder of a SQLite file; the address of the artifacts beside it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"tracking.uri={uri}: cannot write {folder} ({error.strerror}); choose another folder"
        ) from None
    return (folder / _ARTIFACTS).as_uri()
