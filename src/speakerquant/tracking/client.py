"""The connection to MLflow."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from speakerquant.errors import UserError, first_line

# By default the client retries for minutes when a server does not answer.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


@dataclass(frozen=True)
class Tracking:
    """An experiment in an MLflow store."""

    client: MlflowClient
    experiment_id: str


def connect(uri: str, experiment: str) -> Tracking:
    """Open the store and the experiment, which are made on first use.

    A server that does not answer is given up after at most 15 s.

    Raises:
        UserError: the server does not answer, the store cannot be opened, or the experiment was deleted.
    """
    artifacts = _prepare_sqlite(uri)
    try:
        with _impatient():
            client = MlflowClient(uri)
            existing = client.get_experiment_by_name(experiment)
            if existing is None:
                experiment_id = client.create_experiment(experiment, artifact_location=artifacts)
                return Tracking(client, experiment_id)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(
            f"tracking.uri={uri}: the MLflow store does not answer ({first_line(error)[:200]}); "
            "start it or check the address"
        ) from None
    if existing.lifecycle_stage == LifecycleStage.DELETED:
        raise UserError(
            f"tracking.experiment={experiment}: this experiment was deleted; restore it or use another name"
        )
    return Tracking(client, existing.experiment_id)


@contextmanager
def _impatient() -> Iterator[None]:
    """Limit the time of the requests made in the block; later ones, such as uploads, may take longer."""
    before = {name: os.environ.get(name) for name in _IMPATIENT}
    os.environ.update({name: value for name, value in _IMPATIENT.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def _prepare_sqlite(uri: str) -> str | None:
    """Make the folder of a SQLite file; the address of the artifacts beside it, none for other stores."""
    prefix = "sqlite:///"
    if not uri.startswith(prefix):
        return None
    folder = Path(uri.removeprefix(prefix)).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"tracking.uri={uri}: cannot write {folder} ({error.strerror}); choose another folder"
        ) from None
    return (folder / "artifacts").as_uri()
