"""What recordings of many lengths cost: ``python benchmarks/many_lengths.py [model=campplus ...]``.

Engines in FP32 and in INT8, each in a process of its own, embed as many recordings as the list has: all of
its median length, then the list, then the list by another engine of the same mask, as trials of a search do.
The figures are processor time for each recording. Arguments are settings of ``speakerquant``; without any,
the shipped checkpoint embeds the synthetic development list.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from opened_run import open_run
from rich.table import Table

from speakerquant.audio.features import FeatureArray
from speakerquant.console import table_console
from speakerquant.engine.base import Engine
from speakerquant.engine.cpu import describe_cpu
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FP32, INT8

ENGINES, PRECISIONS = ("openvino", "onnxruntime"), (FP32, INT8)
HEADINGS = ("one length", "the list", "the list, another engine")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="settings of speakerquant")
    overrides = ["data.evaluate_on=development", *parser.parse_args().overrides]
    cases = [(engine, precision) for engine in ENGINES for precision in PRECISIONS]
    with ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as processes:
        futures = [processes.submit(milliseconds, engine, str(each), overrides) for engine, each in cases]
        found = [future.result() for future in track(futures, "engines", total=len(futures))]
    table = Table(title=f"ms of processor time for each recording, {describe_cpu()}", title_justify="left")
    table.add_column("engine")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for (engine, precision), times in zip(cases, found, strict=True):
        table.add_row(f"{engine}, {precision}", *(f"{each:.1f}" for each in times))
    table_console().print(table)


def milliseconds(engine_name: str, precision: str, overrides: Sequence[str]) -> list[float]:
    """Processor time for each recording, by heading."""
    evaluator = open_run([*overrides, f"engine={engine_name}"]).evaluator
    pipeline = evaluator.pipeline
    features = pipeline.data.features.features
    median = int(np.median(features.num_frames))
    repeated = np.random.default_rng(0).standard_normal(
        (evaluator.model.front_end.n_mels, median), np.float32
    )
    with tempfile.TemporaryDirectory() as folder:
        mask = Mask(evaluator.units, {"*": precision})
        path = pipeline.building.write(pipeline.prepared, mask, Path(folder), StageTimes())
        with evaluator.builder.build(path) as engine:
            one_length = _embedded(engine, [repeated] * len(features))
        times = []
        for _ in range(2):
            with evaluator.builder.build(path) as engine:
                times.append(_embedded(engine, (features[index] for index in range(len(features)))))
    return [1000 * each / len(features) for each in (one_length, *times)]


def _embedded(engine: Engine, recordings: Iterable[FeatureArray]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    for _ in engine.embed_many(recordings):
        pass
    return time.process_time() - start


if __name__ == "__main__":
    main()
