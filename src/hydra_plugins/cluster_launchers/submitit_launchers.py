"""``hydra/launcher=submitit_slurm`` and ``submitit_local``; light, as every Hydra application imports it."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from speakerquant.errors import UserError


class LocalLauncher(Launcher):
    """Launches jobs as processes of this machine.

    Args:
        settings: Those of ``conf/hydra/launcher/``.
    """

    _cluster = "local"

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        try:
            from hydra_plugins.cluster_launchers._submitit import LocalBatches, SlurmBatches
        except ModuleNotFoundError:
            raise UserError(
                f"hydra/launcher=submitit_{self._cluster}: hydra-submitit-launcher is not installed; "
                "pip install -e '.[cluster]' in speakerquant's folder"
            ) from None
        batches = {"local": LocalBatches, "slurm": SlurmBatches}[self._cluster]
        self._batches = batches(**self._settings)
        self._batches.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        return self._batches.launch(job_overrides, initial_job_idx)


class SlurmLauncher(LocalLauncher):
    """Launches jobs as jobs of SLURM."""

    _cluster = "slurm"
