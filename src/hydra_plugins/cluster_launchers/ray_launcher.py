"""``hydra/launcher=ray``; light, as every Hydra application imports it."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from speakerquant.errors import UserError, first_line


class RayLauncher(Launcher):
    """Launches jobs as tasks of a Ray cluster.

    Args:
        settings: Those of ``conf/hydra/launcher/ray.yaml``.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        try:
            from hydra_plugins.cluster_launchers._ray import RayTasks
        except ImportError as error:
            raise UserError(
                f"hydra/launcher=ray: {first_line(error)}; "
                "pip install -e '.[cluster]' in speakerquant's folder"
            ) from None
        self._tasks = RayTasks(hydra_context, task_function, config, **self._settings)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        return self._tasks.launch(job_overrides, initial_job_idx)
