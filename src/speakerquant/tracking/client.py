"""The connection to MLflow."""

import os
from dataclasses import dataclass
from pathlib import Path

from speakerquant.errors import UserError

# The client's own defaults retry a dead server for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "1")

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError


@dataclass(frozen=True)
class Tracking:
    """An experiment in an MLflow store."""

    client: MlflowClient
    experiment_id: str


def connect(uri: str, experiment: str) -> Tracking:
    """Open the store and the experiment, made on first use.

    Raises:
        UserError: the server does not answer or the store cannot be opened.
    """
    artifacts = _prepare_sqlite(uri)
    try:
        client = MlflowClient(uri)
        existing = client.get_experiment_by_name(experiment)
        if existing is not None:
            return Tracking(client, existing.experiment_id)
        return Tracking(client, client.create_experiment(experiment, artifact_location=artifacts))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"tracking.uri={uri}: the MLflow store does not answer ({reason}); start it or check the address"
        ) from None


def _prepare_sqlite(uri: str) -> str | None:
    """For a SQLite file: make its folder, and keep artifacts beside it."""
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
