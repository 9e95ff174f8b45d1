"""The front that is found, against that of every mask: ``python benchmarks/front_exhaustive.py [settings]``.

All 2,187 masks of INT8, 4 and 2 bits are embedded in the simulation, each part of the network once for all
masks that are alike up to it. Recordings are cut to a second, which makes this feasible; sizes are sums of
what units change alone in real engines. Then ``experiment=front``'s plan is played on these figures: how many
masks it measures, which share of the area that the true front dominates it finds, and how well it predicts
all the others. Settings are those of ``speakerquant``.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from opened_run import open_run
from optuna.distributions import CategoricalDistribution
from rich.table import Table
from torch import Tensor, fx, nn
from ways import PRECISIONS, SETTINGS

from speakerquant.console import table_console
from speakerquant.engine.cpu import describe_cpu
from speakerquant.forecasting.additive_number import Ranks
from speakerquant.forecasting.forecast import Forecast, MeasuredList, MeasuredMask
from speakerquant.mask_search.choices import Choices
from speakerquant.mask_search.front_plan import LOSS, SIZE, FrontPlan
from speakerquant.mask_search.hypervolume import hypervolume
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.measuring.evaluator import MaskEvaluator
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask
from speakerquant.search.goals import Goals
from speakerquant.search.ledger import Claim, Ledger
from speakerquant.search.pareto import pareto_front
from speakerquant.search.search_loop import Budget, Outcome, Search, Succeeded
from speakerquant.search.space import Space
from speakerquant.search.storage import open_storage
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.scores import Embeddings, cosine_scores

FRAMES = 100
BATCH = 16
GOALS = Goals({SIZE: "minimize", LOSS: "minimize"})

Array = npt.NDArray[np.float64]


class _ChildrenTracer(fx.Tracer):
    """Takes the children of a network as they are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class MaskTree:
    """A network under all masks, with every operation computed once for all masks that are alike up to it.

    Args:
        networks: For each rank, the network with all its units at this rank.
        units: Names of the units, children of the network, in its order.
    """

    def __init__(self, networks: Sequence[nn.Module], units: Sequence[str]) -> None:
        self._networks = networks
        self._operations: list[list[fx.Node]] = [[] for _ in units]
        places = {unit: place for place, unit in enumerate(units)}
        latest: dict[fx.Node, int] = {}
        for node in _ChildrenTracer().trace(networks[0]).nodes:
            own = places.get(str(node.target), 0)
            latest[node] = max([own, *(latest[source] for source in node.all_input_nodes)])
            self._operations[latest[node]].append(node)

    def embeddings(self, features: Tensor) -> Iterator[Tensor]:
        """Embeddings ``[B, dim]`` of features ``[B, n_mels, T]`` under every mask, the last unit fastest."""
        return self._from(0, {}, features)

    def _from(self, unit: int, before: Mapping[fx.Node, Any], features: Tensor) -> Iterator[Tensor]:
        for network in self._networks:
            values = dict(before)
            for node in self._operations[unit]:
                values[node] = _value(node, network, values, features)
            if unit + 1 < len(self._operations):
                yield from self._from(unit + 1, values, features)
            else:
                yield values[node]


def _value(node: fx.Node, network: nn.Module, values: Mapping[fx.Node, Any], features: Tensor) -> Any:
    arguments = fx.map_arg(node.args, values.__getitem__)
    keywords = fx.map_arg(node.kwargs, values.__getitem__)
    match node.op:
        case "placeholder":
            return features
        case "call_module":
            return network.get_submodule(str(node.target))(*arguments, **keywords)
        case "call_function":
            assert callable(node.target)
            return node.target(*arguments, **keywords)
        case "call_method":
            return getattr(arguments[0], str(node.target))(*arguments[1:], **keywords)
        case "output":
            return arguments[0]
    raise ValueError(f"{node.op}: an operation of a traced network that is not known here")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="settings of speakerquant")
    evaluator = open_run([*SETTINGS, *parser.parse_args().overrides]).evaluator
    units = list(evaluator.units)
    uniform = [Mask(evaluator.units, dict.fromkeys(units, precision)) for precision in PRECISIONS]
    masks = list(itertools.product(range(len(PRECISIONS)), repeat=len(units)))
    assert min(evaluator.features.tested.features.num_frames) >= FRAMES, (
        "a recording is shorter than a second"
    )
    recordings = [each[:, :FRAMES] for each in evaluator.features.tested.features]
    start = time.perf_counter()
    embeddings = _embeddings(evaluator, uniform, recordings)
    seconds = time.perf_counter() - start
    sizes = _sizes(evaluator, masks)
    trials = evaluator.data.trials
    every = {
        ranks: MeasuredMask(size, eer(cosine_scores(found, trials.left, trials.right), trials.labels), found)
        for ranks, size, found in zip(masks, sizes, embeddings, strict=True)
    }
    table_console().print(
        f"{describe_cpu()}; {len(every):,} masks of {len(recordings)} recordings of {FRAMES} frames embedded "
        f"in {seconds:.0f} s; {len(trials):,} trials, {int(trials.labels.sum()):,} of them target trials"
    )
    measured = _planned(evaluator, units, every, recordings)
    table_console().print(_table(evaluator, every, measured))


def _embeddings(
    evaluator: MaskEvaluator, uniform: Sequence[Mask], recordings: Sequence[Embeddings]
) -> Embeddings:
    """Of all masks, ``[num_masks, num_recordings, dim]``."""
    tree = MaskTree(
        [evaluator.prepared.simulate(mask) for mask in uniform],
        list(evaluator.units),
    )
    batches = [
        torch.from_numpy(np.stack(recordings[start : start + BATCH]))
        for start in range(0, len(recordings), BATCH)
    ]
    with torch.inference_mode():
        found = [
            np.stack([each.numpy() for each in tree.embeddings(batch)])
            for batch in track(batches, "all masks", total=len(batches))
        ]
    return np.concatenate(found, axis=1)


def _sizes(evaluator: MaskEvaluator, masks: Sequence[Ranks]) -> list[int]:
    """Of the engines of all masks, as sums of what each unit changes alone."""
    building = evaluator.pipeline.building
    units = list(evaluator.units)

    def size(lowered: Mapping[str, str]) -> int:
        mask = Mask(evaluator.units, {**dict.fromkeys(units, PRECISIONS[0]), **lowered})
        with tempfile.TemporaryDirectory() as folder:
            path = building.write(evaluator.prepared, mask, Path(folder), StageTimes())
            with building.build(path, StageTimes()) as built:
                return built.size_bytes

    base = size({})
    changes = [[0, *(size({unit: lower}) - base for lower in PRECISIONS[1:])] for unit in units]
    return [base + sum(change[rank] for change, rank in zip(changes, ranks, strict=True)) for ranks in masks]


def _planned(
    evaluator: MaskEvaluator,
    units: Sequence[str],
    every: Mapping[Ranks, MeasuredMask],
    recordings: Sequence[Embeddings],
) -> list[Ranks]:
    """What ``experiment=front`` measures, in turn."""
    trials = evaluator.data.trials
    baseline = cosine_scores(
        embed_with_network(evaluator.model.network, recordings), trials.left, trials.right
    )
    baseline_eer = eer(baseline, trials.labels)
    space = Space({f"mask.{unit}": CategoricalDistribution(PRECISIONS) for unit in units})
    choices = Choices(space, {})

    def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
        found = [(ranks := choices.ranks_of(claim.point), every[ranks]) for claim in claims]
        return [
            Succeeded(
                {
                    SIZE: mask.size_bytes,
                    EER.name: mask.eer,
                    LOSS: mask.eer - baseline_eer,
                    "ranks": ranks,
                }
            )
            for ranks, mask in found
        ]

    measured_on = MeasuredList(trials, baseline_eer, evaluator.numbers_of)
    plan = FrontPlan(choices, GOALS, measured_on, lambda result: every[tuple(result["ranks"])].embeddings)
    ledger = Ledger(open_storage(None), "front", space, GOALS, {})
    history = Search(ledger, Budget(len(every)), evaluate, first_points=plan).run()
    return [choices.ranks_of(trial.params) for trial in history.completed]


def _table(evaluator: MaskEvaluator, every: Mapping[Ranks, MeasuredMask], measured: Sequence[Ranks]) -> Table:
    points = _points(list(every.values()))
    reference = points.max(axis=0)
    whole = hypervolume(points, reference)
    first = 1 + len(evaluator.units) + len(PRECISIONS[1:])
    table = Table(
        title=f"{int(pareto_front(points).sum())} masks are on the true front", title_justify="left"
    )
    for heading in (
        *("masks measured", "area of the true front", "correlation of EER", "mean error", "largest"),
        "within the stated error",
    ):
        table.add_column(heading, justify="right")
    for count in (first, len(measured)):
        known = {ranks: every[ranks] for ranks in measured[:count]}
        unknown = [ranks for ranks in every if ranks not in known]
        predicted = Forecast(known, evaluator.data.trials).predict(np.array(unknown))
        rates = np.array([every[ranks].eer for ranks in unknown])
        errors = np.abs(predicted.eers - rates)
        table.add_row(
            str(count),
            f"{100 * hypervolume(_points(list(known.values())), reference) / whole:.2f} %",
            f"{np.corrcoef(predicted.eers, rates)[0, 1]:.3f}",
            f"{errors.mean():.4f} %",
            f"{errors.max():.4f} %",
            f"{100 * (errors <= predicted.errors).mean():.1f} %",
        )
    return table


def _points(masks: Sequence[MeasuredMask]) -> Array:
    return np.array([[mask.size_bytes, mask.eer] for mask in masks], np.float64)


if __name__ == "__main__":
    main()
