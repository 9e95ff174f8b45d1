"""A multirun is one MLflow parent run; its jobs are the children."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from mlflow.exceptions import MlflowException
from omegaconf import DictConfig

from speakerquant.entry_point import fail
from speakerquant.errors import UserError
from speakerquant.tracking.client import connect
from speakerquant.tracking.runs import TrackedRun

PARENT_FILE = ".mlflow_parent_run"  # in the sweep folder, where jobs of any process find it


class ParentRun(Callback):
    """Hydra callback: opens the parent run before the first job.

    Closing is left to whoever started Hydra, which does not call ``on_multirun_end`` when a job failed.
    """

    run: TrackedRun | None = None
    folder: Path

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        if "study_name" in config.hydra.sweeper:
            return  # a search is one run however many commands work on it: speakerquant.tracking.study
        try:
            tracking = connect(config.tracking.uri, config.tracking.experiment)
            folder = Path(config.hydra.sweep.dir)
            folder.mkdir(parents=True, exist_ok=True)
            ParentRun.folder = folder
            ParentRun.run = TrackedRun.start(tracking, name=folder.name)
            (folder / PARENT_FILE).write_text(ParentRun.run.run_id)
        except (UserError, MlflowException, OSError) as error:
            fail(error)  # Hydra would log an exception of a callback and carry on


def parent_run_id() -> str | None:
    """In a Hydra job: the MLflow run of the multirun that it belongs to, if it does."""
    hydra = HydraConfig.get()
    if hydra.mode is not RunMode.MULTIRUN:
        return None
    return (Path(hydra.sweep.dir) / PARENT_FILE).read_text()
