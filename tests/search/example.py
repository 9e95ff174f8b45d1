"""Searches over seven and five units whose results are known, and one process's part in one of them."""

import random
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection

from optuna.distributions import CategoricalDistribution
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage

from speakerquant.mask_search.choices import Choices
from speakerquant.mask_search.warm_start import MaskWarmStart
from speakerquant.search import journal
from speakerquant.search.goals import Goals
from speakerquant.search.ledger import Claim, Ledger
from speakerquant.search.search_loop import Budget, Outcome, Search, Succeeded
from speakerquant.search.space import Scalar, Space
from speakerquant.search.storage import open_storage

UNITS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
SAVING = dict(zip(UNITS, (1, 9, 9, 9, 15, 7, 3), strict=True))
LOSS = dict(zip(UNITS, (-0.005, 0.015, 0.051, 0.101, 0.023, 0.016, 0.0), strict=True))
SPACE = Space({f"mask.{unit}": CategoricalDistribution(("fp32", "int8")) for unit in UNITS})
SMALLER = Space({name: SPACE.axes[name] for name in [*SPACE.axes][:5]})
GOALS = Goals({"loss": "minimize", "size": "minimize"}, {"loss": 0.074})


def result(point: Mapping[str, Scalar]) -> dict[str, float]:
    quantized = [unit for unit in UNITS if point.get(f"mask.{unit}") == "int8"]
    return {
        "size": 63.0 - sum(SAVING[unit] for unit in quantized),
        "loss": sum(LOSS[unit] for unit in quantized),
    }


def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
    return [Succeeded(result(claim.point)) for claim in claims]


def ledger(storage: BaseStorage, name: str, space: Space = SPACE) -> Ledger:
    return Ledger(storage, name, space, GOALS, {"checkpoint": "a"})


def warm_start(space: Space = SPACE) -> MaskWarmStart:
    return MaskWarmStart(Choices(space, {}), GOALS)


def make_sampler(seed: int) -> TPESampler:
    return TPESampler(seed=seed, n_startup_trials=5)


def take_part(reports: Connection, location: str, study: str, n_trials: int, seconds: float) -> None:
    """Search over five units, and report the number of each evaluated trial.

    An evaluation takes up to so many seconds.
    """

    def evaluate_slowly(claims: Sequence[Claim]) -> list[Outcome]:
        time.sleep(random.uniform(0, seconds))
        for claim in claims:
            reports.send(claim.number)
        return evaluate(claims)

    journal._LOCK_SECONDS = 3  # which others wait where a process that holds the lock is killed
    Search(
        ledger(open_storage(location), study, SMALLER),
        Budget(n_trials),
        evaluate_slowly,
        first_points=warm_start(SMALLER),
        make_sampler=make_sampler,
    ).run()
