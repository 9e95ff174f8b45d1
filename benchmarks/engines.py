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
from pathlib import Path

from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from speakerquant.cache import Cache
from speakerquant.config import RunConfig, TensorRtConfig, register_schemas, typed
from speakerquant.engine.base import EngineBuilder
from speakerquant.engine.registry import ENGINES, engine_builder
from speakerquant.entry_point import config_folder
from speakerquant.errors import UserError
from speakerquant.evaluation.latency import measure_latency, request_of
from speakerquant.evaluation.mask_evaluation import MaskFigures, StageTimes
from speakerquant.inputs import Inputs, calibrated, load_model, mask_evaluator, open_inputs
from speakerquant.model.units import Units, block_units
from speakerquant.paper import PROPOSED_UNITS
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import Precision

Figures = Mapping[tuple[str, str], MaskFigures]
"""By engine and mask."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="turns in which latencies are measured")
    parser.add_argument("overrides", nargs="*", help="settings of speakerquant")
    arguments = parser.parse_args()
    console = Console(width=120)
    register_schemas()
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = typed(compose("run", overrides=arguments.overrides), RunConfig)
    cache = Cache(Path(config.cache.root) if config.cache.root else None)
    model = load_model(config.model)
    inputs = open_inputs(config, model, cache)
    evaluator = mask_evaluator(config.engine, inputs, calibrated(config.calibration, inputs, cache), cache)
    builders = _builders(config, cache, console)
    masks = _named_masks(block_units(model.network))
    figures: dict[tuple[str, str], MaskFigures] = {}
    with tempfile.TemporaryDirectory() as folder:
        pairs = list(itertools.product(builders, masks))
        for engine, mask in track(pairs, "masks", total=len(pairs)):
            path = Path(folder) / engine / mask
            path.mkdir(parents=True)
            figures[engine, mask] = evaluator.evaluate(masks[mask], builders[engine], path, StageTimes())
        latencies = _latencies(builders, masks, inputs, Path(folder), arguments.repeats)
    console.print(_table(f"{len(inputs.data.trials)} trials", figures, latencies))
    _print_differences(console, figures, list(builders), list(masks))


def _builders(config: RunConfig, cache: Cache, console: Console) -> dict[str, EngineBuilder]:
    """Those that run here."""
    tensorrt = config.engine if isinstance(config.engine, TensorRtConfig) else None
    builders: dict[str, EngineBuilder] = {}
    for name in ENGINES:
        try:
            builders[name] = engine_builder(name, tensorrt, cache)
        except UserError as error:
            console.print(f"{name}: {error}")
        else:
            console.print(f"{name}: {', '.join(builders[name].environment.values())}")
    return builders


def _named_masks(units: Units) -> dict[str, Mask]:
    int8 = {
        "none": [],
        **{unit: [unit] for unit in units},
        "paper": [unit for unit in units if unit in PROPOSED_UNITS],
        "all": [*units],
    }
    return {name: Mask(units, dict.fromkeys(names, Precision.INT8)) for name, names in int8.items()}


def _latencies(
    builders: Mapping[str, EngineBuilder],
    masks: Mapping[str, Mask],
    inputs: Inputs,
    folder: Path,
    repeats: int,
) -> dict[tuple[str, str], float]:
    """Median latency in milliseconds, by engine and mask."""
    request = request_of(inputs.calibration.features[0], inputs.model.front_end.frames_per_second)
    measured: dict[tuple[str, str], list[float]] = {}
    turns = list(itertools.product(range(repeats), masks, builders))
    for _, mask, engine in track(turns, "latency", total=len(turns)):
        with builders[engine].load(folder / engine / mask / f"engine.{engine}") as loaded:
            measured.setdefault((engine, mask), []).append(measure_latency(loaded, request).ms_p50)
    return {pair: statistics.median(times) for pair, times in measured.items()}


def _table(title: str, figures: Figures, latencies: Mapping[tuple[str, str], float]) -> Table:
    table = Table(title=title)
    headings = ("engine", "INT8 units", "EER %", "size MB", "ratio", "fidelity", "latency ms", "against FP32")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < 2 else "right")
    for (engine, mask), measured in figures.items():
        fp32 = figures[engine, "none"]
        table.add_row(
            engine,
            mask,
            f"{measured.eer:.3f}",
            f"{measured.size_bytes / 1e6:.3f}",
            f"{measured.size_bytes / fp32.size_bytes:.3f}",
            f"{measured.fidelity:.7f}",
            f"{latencies[engine, mask]:.2f}",
            f"{latencies[engine, 'none'] / latencies[engine, mask]:.2f}x",
            end_section=mask == "all",
        )
    return table


def _print_differences(
    console: Console, figures: Figures, engines: Sequence[str], masks: Sequence[str]
) -> None:
    for one, other in itertools.combinations(engines, 2):
        eer = max(abs(figures[one, mask].eer - figures[other, mask].eer) for mask in masks)
        size = max(abs(figures[one, mask].size_bytes / figures[other, mask].size_bytes - 1) for mask in masks)
        console.print(
            f"{one}, {other}: EER differs by at most {eer:.3f} % absolute, size by {100 * size:.1f} %"
        )


if __name__ == "__main__":
    main()
