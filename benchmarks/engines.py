"""The engines side by side: ``python benchmarks/engines.py [--repeats N] [data=folder data.root=... ...]``.

Every engine that runs here builds the ten named masks. For each the table shows EER, size, fidelity (smallest
cosine with fake quantization) and the median latency of a request of 3 s; latencies are measured in turns.
Last comes by how much every pair of engines differs. Further arguments are settings of ``speakerquant``:
without any, the shipped checkpoint on the synthetic test list.
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from opened_run import OpenedRun, open_run
from rich.console import Console
from rich.table import Table

from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED
from speakerquant.architectures.units import Units
from speakerquant.engine.backends import ENGINES, engine_builder
from speakerquant.engine.base import EngineBuilder
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtSettings
from speakerquant.errors import UserError
from speakerquant.measuring.evaluator import MaskEvaluator
from speakerquant.measuring.latency import measure_latency, request_of
from speakerquant.measuring.pipeline import Measurement
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import INT8, Precision
from speakerquant.statistics.error_rates import eer

Measurements = Mapping[tuple[str, str], Measurement]
"""By engine and mask."""

Figures = Mapping[tuple[str, str], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="turns in which latencies are measured")
    parser.add_argument("overrides", nargs="*", help="settings of speakerquant")
    arguments = parser.parse_args()
    console = Console(width=120)
    run = open_run(arguments.overrides)
    builders = _builders(run, console)
    masks = _named_masks(run.evaluator.units)
    measurements: dict[tuple[str, str], Measurement] = {}
    with tempfile.TemporaryDirectory() as folder:
        for engine, builder in builders.items():
            folders = [Path(folder) / engine / mask for mask in masks]
            measured = _evaluator(run, builder).measure(list(masks.values()), folders)
            for mask, measurement in zip(masks, track(measured, engine, total=len(masks)), strict=True):
                measurements[engine, mask] = measurement
        latencies = _latencies(builders, masks, run.evaluator, Path(folder), arguments.repeats)
    labels = run.evaluator.data.trials.labels
    eers = {pair: eer(measured.scores, labels) for pair, measured in measurements.items()}
    console.print(_table(f"{len(labels)} trials", measurements, eers, latencies))
    _print_differences(console, measurements, eers, list(builders), list(masks))


def _builders(run: OpenedRun, console: Console) -> dict[str, EngineBuilder]:
    """Those that run here."""
    tensorrt = run.config.engine if isinstance(run.config.engine, TensorRtSettings) else None
    builders: dict[str, EngineBuilder] = {}
    for name in ENGINES:
        try:
            builder = engine_builder(name, tensorrt, run.evaluator.cache)
        except UserError as error:
            console.print(f"{name}: {error}")
            continue
        words = ", ".join(builder.environment.values())
        if builder.executes:
            builders[name] = builder
            console.print(f"{name}: {words}")
        else:
            console.print(f"{name}: {words}: builds here and does not run")
    return builders


def _evaluator(run: OpenedRun, builder: EngineBuilder) -> MaskEvaluator:
    settings = replace(
        run.evaluator.settings,
        weight_bits=builder.weight_bits(run.config.engine.weight_bits),
        latency_requests=0,  # latencies are measured in turns, afterwards
    )
    return replace(run.evaluator, builder=builder, settings=settings)


def _named_masks(units: Units) -> dict[str, Mask]:
    precisions: dict[str, dict[str, Precision]] = {
        "none": {},
        **{unit: {unit: INT8} for unit in units},
        "paper": dict.fromkeys(PUBLISHED.proposed_units, INT8),
        "all": {"*": INT8},
    }
    return {name: Mask(units, chosen) for name, chosen in precisions.items()}


def _latencies(
    builders: Mapping[str, EngineBuilder],
    masks: Mapping[str, Mask],
    evaluator: MaskEvaluator,
    folder: Path,
    repeats: int,
) -> Figures:
    """Median latency in milliseconds, by engine and mask."""
    recording = evaluator.features.calibration.features[0]
    request = request_of(recording, evaluator.model.front_end.frames_per_second)
    measured: dict[tuple[str, str], list[float]] = {}
    turns = list(itertools.product(range(repeats), masks, builders))
    for _, mask, engine in track(turns, "latency", total=len(turns)):
        with builders[engine].load(folder / engine / mask / f"engine.{engine}") as loaded:
            measured.setdefault((engine, mask), []).append(measure_latency(loaded, request).ms_p50)
    return {pair: statistics.median(times) for pair, times in measured.items()}


def _table(title: str, measurements: Measurements, eers: Figures, latencies: Figures) -> Table:
    table = Table(title=title)
    headings = ("engine", "INT8 units", "EER %", "size MB", "ratio", "fidelity", "latency ms", "against FP32")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < 2 else "right")
    for (engine, mask), measured in measurements.items():
        fp32 = measurements[engine, "none"]
        table.add_row(
            engine,
            mask,
            f"{eers[engine, mask]:.3f}",
            f"{measured.size_bytes / 1e6:.3f}",
            f"{measured.size_bytes / fp32.size_bytes:.3f}",
            f"{measured.fidelity:.7f}",
            f"{latencies[engine, mask]:.2f}",
            f"{latencies[engine, 'none'] / latencies[engine, mask]:.2f}x",
            end_section=mask == "all",
        )
    return table


def _print_differences(
    console: Console,
    measurements: Measurements,
    eers: Figures,
    engines: Sequence[str],
    masks: Sequence[str],
) -> None:
    for one, other in itertools.combinations(engines, 2):
        pairs = [(measurements[one, mask], measurements[other, mask]) for mask in masks]
        difference = max(abs(eers[one, mask] - eers[other, mask]) for mask in masks)
        size = max(abs(first.size_bytes / second.size_bytes - 1) for first, second in pairs)
        console.print(
            f"{one}, {other}: EER differs by at most {difference:.3f} % absolute, size by {100 * size:.1f} %"
        )


if __name__ == "__main__":
    main()
