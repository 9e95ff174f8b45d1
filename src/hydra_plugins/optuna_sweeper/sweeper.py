"""The sweeper ``hydra/sweeper=optuna_search``; light, since every Hydra application imports it."""

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.optuna_sweeper._settings import SAMPLERS, OptunaSweeperConf

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
