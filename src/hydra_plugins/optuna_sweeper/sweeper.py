"""The sweeper ``hydra/sweeper=optuna_search``; light, since every Hydra application imports it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class OptunaSweeperConf:
    """Settings of ``hydra.sweeper``; docs/search.md says how to choose."""

    _target_: str = "hydra_plugins.optuna_sweeper.sweeper.OptunaSweeper"
    _recursive_: bool = False
    defaults: list[Any] = field(default_factory=lambda: ["_self_", {"sampler": None}])

    n_trials: int = 20
    n_jobs: int = 1
    # URL of a database, or path of a journal file; null keeps the study in memory.
    storage: str | None = None
    # null: named after all that makes trials comparable, so that the same command finds its study again.
    study_name: str | None = None
    # _target_ and arguments of an Optuna sampler, or one of the group hydra/sweeper/sampler; null: tpe of it.
    sampler: Any = None
    # Name of a number in the job's result: minimize or maximize.
    objectives: dict[str, Any] = field(default_factory=dict)
    # Name of a number in the job's result: its largest allowed value.
    constraints: dict[str, Any] = field(default_factory=dict)
    # Share of n_trials that may fail before the search gives up.
    max_failure_rate: float = 0.25
    # Begin with the points that the application suggests.
    warm_start: bool = True
    # Import path of a subclass of speakerquant.search.application.SearchApplication; null adds nothing.
    application: str | None = None
    # Config key: choice(...), range(...) or interval(...); more on the command line.
    params: dict[str, Any] = field(default_factory=dict)


SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {"_target_": "optuna.samplers.TPESampler", "seed": 0, "multivariate": True},
    "nsgaii": {"_target_": "optuna.samplers.NSGAIISampler", "seed": 0, "population_size": 10},
    "nsgaiii": {"_target_": "optuna.samplers.NSGAIIISampler", "seed": 0, "population_size": 10},
    "gp": {"_target_": "optuna.samplers.GPSampler", "seed": 0},
    "random": {"_target_": "optuna.samplers.RandomSampler", "seed": 0},
    "brute_force": {"_target_": "optuna.samplers.BruteForceSampler", "seed": 0},
}

_typed = OmegaConf.structured(OptunaSweeperConf)
for _key in ("objectives", "constraints", "params"):
    _typed[_key]._set_flag("struct", False)  # its keys are the application's: no "+" to add one
# The values keep their types, but in a plain mapping, from which ~hydra.sweeper.params can remove a key.
_defaults = OmegaConf.create({str(_key): _typed._get_node(_key) for _key in _typed})

_store = ConfigStore.instance()
_store.store("optuna_search", _defaults, group="hydra/sweeper", provider="optuna_sweeper")
for _name, _node in SAMPLERS.items():
    _store.store(_name, _node, group="hydra/sweeper/sampler", provider="optuna_sweeper")


class OptunaSweeper(Sweeper):
    """Searches a configuration with Optuna (:mod:`speakerquant.search`)."""

    def __init__(self, **settings: Any) -> None:
        from hydra_plugins.optuna_sweeper._implementation import Implementation

        chosen = OptunaSweeperConf(**settings)
        chosen.sampler = chosen.sampler or OmegaConf.create(SAMPLERS["tpe"])
        self._implementation = Implementation(chosen)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._implementation.setup(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Sequence[Sequence[JobReturn]]:
        return self._implementation.sweep(arguments)
