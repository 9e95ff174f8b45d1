"""Settings of the sweeper, and the samplers to choose from."""

from dataclasses import dataclass, field
from typing import Any


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
    # _target_ and arguments of an Optuna sampler, or one of the group hydra/sweeper/sampler; null: tpe of it;
    # none of it evaluates only what the application suggests.
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
    # Only what the application suggests.
    "none": {"_target_": None},
    "brute_force": {"_target_": "optuna.samplers.BruteForceSampler", "seed": 0},
}
