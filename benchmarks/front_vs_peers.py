"""What a front costs in several ways: ``python benchmarks/front_vs_peers.py [--only front,search,...]``.

The shipped checkpoint on the synthetic development list with OpenVINO, one way after the other, each with a
cache of its own in which only the recordings are known beforehand:

front   ``experiment=front``, 2,187 masks, of which it builds what it needs
search  ``experiment=search`` with 40 trials
naive   a fresh model, calibrated, exported, built, run and scored for every mask: eight masks, extrapolated
nncf    NNCF's quantization with accuracy control: layers go back to FP32 until it has lost no more EER
        than --max-drop (the extra ``peers``)

The table gives time, masks evaluated, points found, and which share of the area that all ways together
dominate (size against EER) each of them covers. NVIDIA Model Optimizer and AIMET search by the losses of a
trainable model and do not look at trial lists; they are not among these.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from opened_run import OpenedRun, open_run
from rich.table import Table

from speakerquant.cache import Cache
from speakerquant.configuration.opening import open_evaluation, open_rounding
from speakerquant.console import table_console
from speakerquant.engine.cpu import describe_cpu
from speakerquant.evaluation.metrics import eer
from speakerquant.evaluation.scoring import cosine_scores
from speakerquant.graph.export import export_network
from speakerquant.graph.masking import write_mask
from speakerquant.mask_search.hypervolume import hypervolume, pareto_front
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask, baseline_mask

SETTINGS = ("engine=openvino", "data.evaluate_on=development", "engine.latency_requests=0")
NAIVE_MASKS, ALL_MASKS = 8, 2187
PRECISIONS = ("int8", "int4", "int2")
Point = tuple[float, float]  # bytes, EER in percent


@dataclass(frozen=True)
class Way:
    """How a front was found.

    Attributes:
        seconds: How long it took.
        masks: How many masks were evaluated.
        points: Sizes and EERs of those.
        remark: What is to be known of the figures.
    """

    seconds: float
    masks: int
    points: Sequence[Point]
    remark: str = ""


def searched(experiment: str, *overrides: str) -> Callable[[Path], Way]:
    def run(folder: Path) -> Way:
        command = [
            str(Path(sys.executable).with_name("speakerquant")),
            f"experiment={experiment}",
            *overrides,
        ]
        start = time.perf_counter()
        subprocess.run(
            [*command, "engine=openvino", f"cache.root={_new_cache(folder)}"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - start
        results = [json.loads(path.read_text()) for path in folder.glob("multirun/*/*/*/result.json")]
        points = [
            (each["engine_size_bytes"], each["eer"]) for each in results if each["trial_list"] != "test"
        ]
        return Way(seconds, len(points), points)

    return run


def naive(folder: Path) -> Way:
    generator = np.random.default_rng(0)
    points = []
    start = time.perf_counter()
    for number in track(range(NAIVE_MASKS), "naive", total=NAIVE_MASKS):
        run = open_run([*SETTINGS, f"cache.root={_new_cache(folder / str(number))}"])
        precisions = {unit: PRECISIONS[generator.integers(3)] for unit in run.inputs.units}
        mask = Mask(run.inputs.units, precisions)
        rounding = open_rounding(run.config.rounding, run.inputs, run.cache, [mask])
        evaluation = open_evaluation(run.config.engine, run.inputs, run.table, run.cache, rounding)
        [measured] = evaluation.evaluate([mask], [folder])
        points.append((float(measured.size_bytes), measured.scored.eer))
    seconds = (time.perf_counter() - start) / NAIVE_MASKS * ALL_MASKS
    return Way(seconds, NAIVE_MASKS, points, f"time of {ALL_MASKS:,} masks, from {NAIVE_MASKS}")


def accuracy_control(max_drop: float) -> Callable[[Path], Way]:
    def run(folder: Path) -> Way:
        if find_spec("nncf") is None:
            return Way(0, 0, [], "nncf is not installed")
        import nncf
        import openvino as ov

        opened = open_run([*SETTINGS, f"cache.root={_new_cache(folder)}"])
        features, trials = opened.inputs.features.features, opened.inputs.data.trials
        validations = 0

        def validate(model: Any, recordings: Any) -> tuple[float, None]:
            nonlocal validations
            validations += 1
            embeddings = np.concatenate([np.asarray(model([each])[0]) for each in recordings])
            return 100 - eer(cosine_scores(embeddings, trials.left, trials.right), trials.labels), None

        start = time.perf_counter()
        path = _exported(opened, folder)
        quantized = nncf.quantize_with_accuracy_control(
            ov.Core().read_model(path),
            nncf.Dataset([each[np.newaxis] for each in opened.inputs.calibration.features]),
            nncf.Dataset([each[np.newaxis] for each in features]),
            validate,
            max_drop=max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
        )
        compiled = ov.Core().compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        seconds = time.perf_counter() - start
        score, _ = validate(compiled, [each[np.newaxis] for each in features])
        size = len(compiled.export_model().getvalue())
        remark = f"NNCF {version('nncf')}, at most {max_drop:g} % lost, {validations - 1} validations"
        return Way(seconds, 1, [(float(size), 100 - score)], remark)

    return run


def _exported(opened: OpenedRun, folder: Path) -> Path:
    network, path = opened.inputs.model.network, folder / "model.onnx"
    write_mask(
        export_network(network, network.n_mels), baseline_mask(opened.inputs.units), opened.table, path
    )
    return path


def _new_cache(folder: Path) -> Path:
    """A cache that knows nothing but the synthetic recordings."""
    cache = folder / "cache"
    cache.mkdir(parents=True)
    (cache / "synthetic").symlink_to(Cache().root / "synthetic")
    return cache


def _rows(ways: dict[str, Way]) -> Iterator[list[str]]:
    everything = np.array([point for way in ways.values() for point in way.points])
    reference = everything.max(axis=0)
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
    ways: dict[str, Callable[[Path], Way]] = {
        "front": searched("front"),
        "search": searched("search", "hydra.sweeper.n_trials=40"),
        "naive": naive,
        "nncf": accuracy_control(arguments.max_drop),
    }
    chosen = arguments.only.split(",") if arguments.only else list(ways)
    open_run(SETTINGS)  # makes the recordings
    found = {}
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = ways[name](Path(folder))
        table_console().print(f"{name}: {found[name].seconds:.0f} s")
    table = Table(title=describe_cpu(), title_justify="left")
    for heading in ("way", "seconds", "masks", "on its front", "area", "smallest", "remark"):
        table.add_column(heading, justify="left" if heading in ("way", "smallest", "remark") else "right")
    for row in _rows(found):
        table.add_row(*row)
    table_console().print(table)


if __name__ == "__main__":
    main()
