"""How long a second mask takes: ``python benchmarks/second_mask.py [--repeats N] [data=folder ...]``.

Features, ranges and the exported graph are in the cache, where any first mask leaves them; embeddings are
made anew. The table gives the median seconds of each stage, and how much everything but embedding and
scoring takes, relative to embedding. Further arguments are settings of ``speakerquant``: without any, the
shipped checkpoint on the synthetic test list.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from opened_run import open_run
from rich.table import Table

from speakerquant.cache import Cache
from speakerquant.console import table_console
from speakerquant.engine.cpu import describe_cpu
from speakerquant.measuring.pipeline import MeasurementPipeline
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FP32, INT8

STAGES = ("export", "build", "fidelity", "latency", "embedding", "scoring")
PATTERNS = {"paper": {"*": INT8, "se_res2block[23]": FP32}, "all": {"*": INT8}}


@dataclass(frozen=True)
class Timed:
    """Seconds of one mask: by stage, and from beginning to end."""

    stages: dict[str, float]
    whole: float

    @property
    def overhead(self) -> float:
        """Everything but embedding and scoring, relative to embedding."""
        rest = self.whole - self.stages["embedding"] - self.stages["scoring"]
        return rest / self.stages["embedding"]

    def without_latency(self) -> "Timed":
        """The same, had the latency not been measured."""
        latency = self.stages.get("latency", 0.0)
        return Timed({**self.stages, "latency": 0.0}, self.whole - latency)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="repetitions, of which the medians count")
    parser.add_argument("overrides", nargs="*", help="settings of speakerquant")
    arguments = parser.parse_args()
    evaluator = open_run(arguments.overrides).evaluator
    masks = {name: Mask(evaluator.units, precisions) for name, precisions in PATTERNS.items()}
    timed: dict[str, list[Timed]] = {name: [] for name in masks}
    turns = list(masks.items()) * arguments.repeats
    for name, mask in track(turns, "masks", total=len(turns)):
        timed[name].append(_measure(evaluator.pipeline, mask))
    data = evaluator.pipeline.data
    title = (
        f"Seconds of a second mask, {evaluator.builder.name} on {describe_cpu()}\n"
        f"{len(data.trials.recordings)} recordings ({data.features.seconds:.0f} s), "
        f"{len(data.trials)} trials, medians of {arguments.repeats}"
    )
    table_console().print(_table(title, timed))


def _measure(pipeline: MeasurementPipeline, mask: Mask) -> Timed:
    with tempfile.TemporaryDirectory() as folder:
        uncached = replace(pipeline, cache=Cache(Path(folder) / "cache"))
        start = time.perf_counter()
        measured = uncached.measure(mask, Path(folder) / "mask")
        return Timed(measured.times.seconds, time.perf_counter() - start)


def _table(title: str, timed: dict[str, list[Timed]]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("mask")
    for heading in (*STAGES, "all", "all but embedding and scoring", "without latency"):
        table.add_column(heading, justify="right")
    for name, repeats in timed.items():
        table.add_row(
            name,
            *(_median([x.stages.get(stage, 0.0) for x in repeats], ".2f") for stage in STAGES),
            _median([x.whole for x in repeats], ".2f"),
            _median([x.overhead for x in repeats], ".1%"),
            _median([x.without_latency().overhead for x in repeats], ".1%"),
        )
    return table


def _median(values: Sequence[float], form: str) -> str:
    return format(statistics.median(values), form)


if __name__ == "__main__":
    main()
