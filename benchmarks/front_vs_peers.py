"""What a front costs in several ways: ``python benchmarks/front_vs_peers.py [--only front,search,...]``.

The shipped checkpoint on the synthetic development list with OpenVINO, one way after the other, each with a
cache of its own in which only the recordings are known beforehand:

front     ``experiment=front``, 2,187 masks, of which it builds what it needs
search    ``experiment=search`` with 40 trials
naive     a fresh model, calibrated, exported, built, run and scored for every mask: eight masks, extrapolated
nncf      NNCF's quantization with accuracy control: layers go back to FP32 until it has lost no more EER
          than --max-drop
modelopt  NVIDIA Model Optimizer's ``auto_quantize``: INT8, 4 or 2 bits for every layer, by gradients on the
          calibration recordings, for several budgets of bits; the masks that it chose are built and measured
          as ours
aimet     AIMET's automatic mixed precision: of how many layers it knows the cost

The last three are tools of others (``peer_ways.py``; the extra ``peers`` has NNCF and Model Optimizer). One
that is not installed or cannot do it says so in its row. The table gives time, masks evaluated, points found,
and which share of the area that all ways together dominate (size against EER) each of them covers.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from opened_run import open_run
from peer_ways import accuracy_control, auto_quantize, mixed_precision, peer
from rich.table import Table
from ways import PRECISIONS, SETTINGS, FindFront, Point, Way, measure, new_cache, open_afresh

from speakerquant.console import table_console
from speakerquant.engine.cpu import describe_cpu
from speakerquant.mask_search.hypervolume import hypervolume
from speakerquant.measuring.engine_metrics import ENGINE_SIZE
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask
from speakerquant.search.pareto import pareto_front
from speakerquant.statistics.error_metrics import EER

NAIVE_MASKS, ALL_MASKS = 8, 2187


def searched(experiment: str, *overrides: str) -> FindFront:
    def run(folder: Path) -> Way:
        command = [
            str(Path(sys.executable).with_name("speakerquant")),
            f"experiment={experiment}",
            *overrides,
        ]
        start = time.perf_counter()
        subprocess.run(
            [*command, "engine=openvino", f"cache.root={new_cache(folder)}"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - start
        results = [json.loads(path.read_text()) for path in folder.glob("multirun/*/*/*/result.json")]
        points = [
            (each[ENGINE_SIZE.name], each[EER.name]) for each in results if each["trial_list"] != "test"
        ]
        return Way(seconds, len(points), points)

    return run


def naive(folder: Path) -> Way:
    generator = np.random.default_rng(0)
    points: list[Point] = []
    start = time.perf_counter()
    for number in track(range(NAIVE_MASKS), "naive", total=NAIVE_MASKS):
        evaluator = open_afresh(folder / str(number))
        precisions = {unit: PRECISIONS[generator.integers(3)] for unit in evaluator.units}
        points += measure(evaluator, [Mask(evaluator.units, precisions)], folder)
    seconds = (time.perf_counter() - start) / NAIVE_MASKS * ALL_MASKS
    return Way(seconds, NAIVE_MASKS, points, f"time of {ALL_MASKS:,} masks, from {NAIVE_MASKS}")


def _processor_seconds() -> float:
    """What this process and the ended ones that it started have used, whatever else the machine did."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _rows(ways: dict[str, Way]) -> Iterator[list[str]]:
    everything = np.array([point for way in ways.values() for point in way.points]).reshape(-1, 2)
    reference = everything.max(axis=0, initial=0)
    whole = hypervolume(everything, reference)
    for name, way in ways.items():
        points = np.array(way.points).reshape(-1, 2)
        share = f"{100 * hypervolume(points, reference) / whole:.1f} %" if len(points) and whole else "-"
        on_front = int(pareto_front(points).sum()) if len(points) else 0
        smallest = ", ".join(f"{size / 1e6:.3f} MB at {rate:.3f} %" for size, rate in sorted(way.points)[:1])
        yield [name, f"{way.seconds:.0f}", str(way.masks), str(on_front), share, smallest, way.remark]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="ways to take, with commas between them")
    parser.add_argument("--max-drop", type=float, default=0.01, help="EER in percent that NNCF may lose")
    arguments = parser.parse_args()
    ways: dict[str, FindFront] = {
        "front": searched("front"),
        "search": searched("search", "hydra.sweeper.n_trials=40"),
        "naive": naive,
        "nncf": peer("nncf", accuracy_control(arguments.max_drop)),
        "modelopt": peer("modelopt", auto_quantize),
        "aimet": peer("aimet_torch", mixed_precision),
    }
    chosen = arguments.only.split(",") if arguments.only else list(ways)
    open_run(SETTINGS)  # makes the recordings
    found = {}
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            before = _processor_seconds()
            found[name] = ways[name](Path(folder))
        table_console().print(
            f"{name}: {found[name].seconds:.0f} s, {_processor_seconds() - before:.0f} s of CPU"
        )
    table = Table(title=describe_cpu(), title_justify="left")
    for heading in ("way", "seconds", "masks", "on its front", "area", "smallest", "remark"):
        table.add_column(heading, justify="left" if heading in ("way", "smallest", "remark") else "right")
    for row in _rows(found):
        table.add_row(*row)
    table_console().print(table)


if __name__ == "__main__":
    main()
