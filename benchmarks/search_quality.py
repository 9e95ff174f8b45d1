"""How good a front the search finds: ``python benchmarks/search_quality.py [--trials 40 --seeds 5]``.

Every mask of the shipped checkpoint is measured once on the development list with the real engine (on
first use, about twenty minutes on two cores; kept in the user's cache folder). Searches then replay that
table. Given is the hypervolume of what they have found after so many trials, relative to that of all masks
together: median over the seeds. The reference point is 1.1 times the FP32 engine's size and 1.1 times the
worst EER.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from hydra.utils import instantiate
from opened_run import open_run
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from rich.table import Table

from hydra_plugins.optuna_sweeper._settings import SAMPLERS
from speakerquant import schema_versions
from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED
from speakerquant.configuration.schema import TrialList
from speakerquant.console import table_console
from speakerquant.engine.cpu import describe_cpu
from speakerquant.files import atomic_path, digest
from speakerquant.mask_search.choices import Choices
from speakerquant.mask_search.warm_start import MaskWarmStart
from speakerquant.measuring.engine_metrics import ENGINE_SIZE
from speakerquant.measuring.evaluator import MaskEvaluator
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import BASELINE, INT8
from speakerquant.search.goals import Goals
from speakerquant.search.history import REPEAT_OF, result_of
from speakerquant.search.ledger import Claim, Ledger
from speakerquant.search.search_loop import Budget, Outcome, Search, Succeeded
from speakerquant.search.space import Point, Space
from speakerquant.search.storage import open_storage
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.error_rates import eer

Metrics = Mapping[str, float]
"""EER and size of the engine, by the names of their metrics."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40, help="trials of a search")
    parser.add_argument("--seeds", type=int, default=5, help="searches of each kind")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    console = table_console()
    masks = measure_all_masks()
    fp32 = next(iter(masks.values()))
    reference = (1.1 * fp32[ENGINE_SIZE.name], 1.1 * max(metrics[EER.name] for metrics in masks.values()))
    whole = hypervolume(list(masks.values()), reference)
    checkpoints = [*range(5, arguments.trials, 5), arguments.trials]
    table = Table(
        title=f"{len(masks)} masks, {arguments.seeds} seeds; {describe_cpu()}", title_justify="left"
    )
    for heading in ("sampler", "first points", *map(str, checkpoints), "repeats", "seconds"):
        table.add_column(heading, justify="left" if heading in ("sampler", "first points") else "right")
    kinds = [("random", False), *((name, True) for name in SAMPLERS)]
    for sampler, warm_start in track(kinds, "searches", total=len(kinds)):
        curves, repeats, seconds = [], [], []
        for seed in range(arguments.seeds):
            start = time.perf_counter()
            found, num_repeats = replay(masks, sampler, seed, arguments.trials, warm_start=warm_start)
            seconds.append(time.perf_counter() - start)
            repeats.append(num_repeats)
            curves.append([hypervolume(found[:count], reference) / whole for count in checkpoints])
        table.add_row(
            sampler,
            "warm start" if warm_start else "none",
            *(f"{100 * statistics.median(column):.2f} %" for column in zip(*curves, strict=True)),
            f"{statistics.median(repeats):g}",
            f"{statistics.median(seconds):.1f}",
        )
    console.print(table)


def hypervolume(found: Sequence[Metrics], reference: tuple[float, float]) -> float:
    """Area that the points dominate, up to the reference, a size and an EER."""
    area, lowest = 0.0, reference[1]
    for size, rate in sorted((metrics[ENGINE_SIZE.name], metrics[EER.name]) for metrics in found):
        if rate < lowest:
            area += (reference[0] - size) * (lowest - rate)
            lowest = rate
    return area


def replay(
    masks: Mapping[str, Metrics], sampler: str, seed: int, num_trials: int, *, warm_start: bool
) -> tuple[list[Metrics], int]:
    """What a search finds, in that order, and how often its sampler repeated itself."""
    units = [part.split("=")[0] for part in next(iter(masks)).split(",")]
    space = Space({f"mask.{unit}": CategoricalDistribution((BASELINE.name, INT8.name)) for unit in units})
    goals = Goals(
        {metric.name: metric.direction for metric in (ENGINE_SIZE, EER)}, {EER.name: _largest_eer(masks)}
    )
    ledger = Ledger(open_storage(None), "replay", space, goals, {})

    def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
        return [Succeeded(masks[_key(claim.point)]) for claim in claims]

    history = Search(
        ledger,
        Budget(num_trials),
        evaluate,
        first_points=MaskWarmStart(Choices(space, {}), goals) if warm_start else None,
        make_sampler=lambda sampler_seed: instantiate(SAMPLERS[sampler], seed=sampler_seed),
        seed=seed,
    ).run()
    repeats = sum(REPEAT_OF in trial.user_attrs for trial in history.trials)
    return [result_of(trial) for trial in history.completed], repeats


def _largest_eer(masks: Mapping[str, Metrics]) -> float:
    """The default search's constraint: the FP32 mask's EER and the paper's loss."""
    return next(iter(masks.values()))[EER.name] + PUBLISHED.delta_eer(PUBLISHED.proposed)


def _key(point: Point) -> str:
    return ",".join(f"{name.removeprefix('mask.')}={precision}" for name, precision in point.items())


def measure_all_masks() -> dict[str, dict[str, float]]:
    """EER and size by ``Mask.key``, FP32 first; measured only if not yet."""
    overrides = [f"data.evaluate_on={TrialList.development.name}", "engine.latency_requests=0"]
    evaluator = open_run(overrides).evaluator
    path = evaluator.cache.root / "benchmarks" / f"masks-{_table_key(evaluator)}.json"
    metrics: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    units, labels = evaluator.units, evaluator.data.trials.labels
    masks = [
        Mask(units, dict(zip(units, precisions, strict=True)))
        for precisions in itertools.product((BASELINE, INT8), repeat=len(units))
    ]
    missing = [mask for mask in masks if mask.key not in metrics]
    with tempfile.TemporaryDirectory() as folder:
        measured = evaluator.measure(missing, [Path(folder)] * len(missing))  # engines replace each other
        for measurement in track(measured, "masks", total=len(missing)):
            metrics[measurement.mask.key] = {
                EER.name: eer(measurement.scores, labels),
                ENGINE_SIZE.name: measurement.size_bytes,
            }
            with atomic_path(path) as part:
                part.write_text(json.dumps(metrics, indent=1))
    return metrics


def _table_key(evaluator: MaskEvaluator) -> str:
    """Digest of all that determines the metrics of every mask."""
    settings, builder = evaluator.settings, evaluator.builder
    return digest(
        [schema_versions.EMBEDDINGS, schema_versions.BASELINE, schema_versions.GRAPH, schema_versions.RANGES],
        [evaluator.digests, evaluator.protocol.identity, settings.units.value],
        [evaluator.features.calibration.digest, settings.method, settings.percentile],
        [builder.name, dict(builder.environment), dict(builder.settings), evaluator.weight_bits],
    )


if __name__ == "__main__":
    main()
