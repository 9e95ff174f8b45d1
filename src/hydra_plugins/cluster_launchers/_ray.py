"""Several Hydra jobs in one task of a Ray cluster, and what becomes of them when the cluster loses it."""

import itertools
import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from ray import ObjectRefGenerator
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from hydra_plugins.cluster_launchers._batches import HydraJob, batch_size, in_batches
from hydra_plugins.cluster_launchers._lost_job import LostJob
from speakerquant.errors import UserError, first_line

log = logging.getLogger(__name__)

_LOST = (LocalRayletDiedError, NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError)
_NODES_SECONDS = 10.0  # between two looks whether there is still a node for the tasks that wait
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class _Shared:
    """What all jobs of a command need."""

    hydra_context: HydraContext
    task_function: TaskFunction
    config: DictConfig
    singletons: Any
    working_folder: Path
    sweep_folder: Path
    mlflow_variables: Mapping[str, str]


class RayTasks:
    """What the launcher does, with its heavy imports.

    Args:
        hydra_context: Hydra's.
        task_function: The application.
        config: Of the multirun.
        settings: Those of ``conf/hydra/launcher/ray.yaml``.

    Raises:
        UserError: a setting is out of range, no cluster answers, or none of its nodes can run a task.
    """

    def __init__(
        self, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig, **settings: Any
    ) -> None:
        self._hydra_context, self._task_function, self._config = hydra_context, task_function, config
        self._size = batch_size(settings["masks_per_job"])
        resources = {name: settings[name] for name in ("num_cpus", "num_gpus", "memory")}
        further = dict(settings["resources"])
        try:
            self._task = ray.remote(_run_batch).options(
                **resources,
                resources=further,
                num_returns="streaming",
                max_retries=0,  # who asked for a job decides whether it is worth another try
                name=str(config.hydra.job.name),
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"hydra.launcher: {first_line(error)}") from None
        rays_names = {"num_cpus": "CPU", "num_gpus": "GPU"}
        needed = {rays_names.get(name, name): amount for name, amount in {**resources, **further}.items()}
        self._needed = {name: amount for name, amount in needed.items() if amount}
        _connect(settings["address"])
        self._check_nodes()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run Hydra jobs, some of them together in one task.

        Raises:
            UserError: no node can run a task, or one lacks the installation or the folder of the jobs.
        """
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        self._check_nodes()
        batches = in_batches(job_overrides, initial_job_idx, self._size)
        folder = Path(str(self._config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        log.info("Launching %d jobs on Ray", len(job_overrides))
        for job in itertools.chain(*batches):
            log.info("\t#%d : %s", job.number, " ".join(filter_overrides(job.overrides)))
        shared = ray.put(
            _Shared(
                self._hydra_context,
                self._task_function,
                self._config,
                Singleton.get_state(),
                Path.cwd(),
                folder.absolute(),
                {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")},
            )
        )
        tasks = {self._task.remote(shared, batch): batch for batch in batches}
        try:
            returns = self._returns(tasks)
        except BaseException:
            for task in tasks:
                ray.cancel(task)
            raise
        return [each for task in tasks for each in returns[task]]

    def _returns(
        self, tasks: Mapping[ObjectRefGenerator, Sequence[HydraJob]]
    ) -> dict[ObjectRefGenerator, list[JobReturn]]:
        """Wait for the tasks' jobs; those that a lost task had not ended are lost."""
        returns: dict[ObjectRefGenerator, list[JobReturn]] = {task: [] for task in tasks}
        waiting = set(tasks)

        def lose(task: ObjectRefGenerator, reason: str) -> None:
            waiting.remove(task)
            returns[task] += [LostJob(job.overrides, reason) for job in tasks[task][len(returns[task]) :]]

        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=_NODES_SECONDS)
            for task in ready:
                try:
                    returns[task].append(ray.get(next(task)))
                except StopIteration:
                    waiting.remove(task)
                except _LOST as error:
                    lose(task, first_line(error).split(". ")[0])
                except RayTaskError as error:
                    raise _of_node(error.cause) from None
            if not ready and (lack := self._lack()):
                for task in list(waiting):
                    ray.cancel(task)
                    lose(task, lack)
        return returns

    def _check_nodes(self) -> None:
        if lack := self._lack():
            raise UserError(f"hydra.launcher: {lack}; ask for less, or start such a node")

    def _lack(self) -> str | None:
        """Why no node can run a task, however long it waits: Ray would let it wait, and say nothing."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(all(node.get(name, 0) >= amount for name, amount in self._needed.items()) for node in nodes):
            return None
        have = sorted({_words({name: node.get(name, 0) for name in self._needed}) for node in nodes})
        return f"a task needs {_words(self._needed)}, but the Ray cluster's nodes have {' or '.join(have)}"


def _words(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:.10g} {name}" for name, amount in resources.items())


def _of_node(error: Exception) -> Exception:
    """What a task says that could not even start a job: it lies in the node, or in the configuration."""
    if not isinstance(error, (ImportError, OSError)):
        return error
    return UserError(
        f"hydra/launcher=ray: a node cannot run jobs ({first_line(error)}); every node needs the same "
        "installation, and the folder of the command on shared storage"
    )


def _connect(address: str | None) -> None:
    """Join a cluster, or start one that ends with this process.

    Raises:
        UserError: there is no cluster at the address, or it refuses.
    """
    if ray.is_initialized():
        return
    if address and "://" in address:
        raise UserError(
            f"hydra.launcher.address={address}: give host:port, and start the command on one of the nodes"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ends_on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if cluster := canonicalize_bootstrap_address(address):
            # Ray itself would try for minutes, deaf to Ctrl-C.
            host, port = cluster.rsplit(":", 1)
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        where = f"hydra.launcher.address={address}" if address else "hydra/launcher=ray"
        raise UserError(
            f"{where}: no Ray cluster can be joined there ({first_line(error)}); see docs/cluster.md"
        ) from None
    finally:
        signal.signal(signal.SIGTERM, ends_on_sigterm)  # Ray puts its own in place


def _run_batch(shared: _Shared, batch: Sequence[HydraJob]) -> Iterator[JobReturn]:
    """In a process of the cluster: run Hydra jobs, and hand over what each returns as soon as it ends."""
    os.chdir(shared.working_folder)
    os.environ.update(shared.mlflow_variables)  # the configuration and MLflow read where runs are recorded
    shared.sweep_folder.stat()  # a folder of the same name that is not shared lacks it
    for job in batch:
        setup_globals()
        Singleton.set_state(shared.singletons)
        config = shared.hydra_context.config_loader.load_sweep_config(shared.config, job.overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = job.number
        yield run_job(
            hydra_context=shared.hydra_context,
            task_function=shared.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
