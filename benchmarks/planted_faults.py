"""What the check of engines catches: ``python benchmarks/planted_faults.py [--layers N] [setting ...]``.

Faults are planted in the ONNX file of INT8 everywhere, in one layer at a time, in layers from all over the
network, and the check compares what then runs with the simulation of the mask as it should be: on eight
calibration recordings, as runs have it, and on fewer. The table shows in how many layers each fault is
caught, and what the check takes for a mask without fault. Further arguments are settings of ``speakerquant``.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from opened_run import OpenedRun, open_run
from rich.table import Table

from speakerquant.audio.features import FeatureArray
from speakerquant.console import table_console
from speakerquant.engine.base import Engine
from speakerquant.engine.cpu import describe_cpu
from speakerquant.graph.editing import constants_of
from speakerquant.measuring.check import Agreement, Embed, FidelityCheck, embedding_by, excerpts_of
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import INT8
from speakerquant.statistics.scores import Embeddings

Constant = npt.NDArray[Any]
COUNTS = (8, 6, 4, 3, 2)
REPEATS = 5


def _swapped(codes: Constant) -> Constant:
    return codes[[1, 0, *range(2, len(codes))]]


def _saturated(codes: Constant) -> Constant:
    half = int(np.abs(codes.astype(np.int16)).max()) // 2
    return codes.clip(-half, half).astype(codes.dtype)


def _one_doubled(scales: Constant) -> Constant:
    return np.concatenate([2 * scales[:1], scales[1:]]).astype(scales.dtype)


FAULTS: dict[str, tuple[str, Callable[[Constant], Constant]]] = {
    "two channels swapped": ("weight_quantized", _swapped),
    "weights saturated at half": ("weight_quantized", _saturated),
    "one channel's scale doubled": ("weight_scales", _one_doubled),
    "scales 5 % too large": ("weight_scales", lambda scales: (1.05 * scales).astype(scales.dtype)),
    "inputs' scale 20 % too small": ("input_scale", lambda scale: (0.8 * scale).astype(scale.dtype)),
    "inputs' scale twice as large": ("input_scale", lambda scale: (2 * scale).astype(scale.dtype)),
}
"""What is done to which constant of a layer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=20, help="how many layers, each fault in one at a time")
    parser.add_argument("overrides", nargs="*", help="settings of speakerquant")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    run = open_run(["engine=onnxruntime", f"engine.fidelity_recordings={COUNTS[0]}", *arguments.overrides])
    evaluator = run.evaluator
    mask = Mask(evaluator.units, {"*": INT8})
    print_table(*caught_faults(run, mask, arguments.layers))


def caught_faults(
    run: OpenedRun, mask: Mask, num_layers: int
) -> tuple[dict[str, list[int]], dict[int, float], float, int]:
    """By fault, in how many layers each count of excerpts catches it; seconds of a check; cosine; layers."""
    evaluator = run.evaluator
    pipeline, prepared = evaluator.pipeline, evaluator.prepared
    smallest = pipeline.fidelity.min_fidelity
    frames_per_second = evaluator.model.front_end.frames_per_second
    checked = evaluator.features.calibration.features
    fewest = evaluator.model.network.min_frames
    excerpts = {count: excerpts_of(checked[:count], frames_per_second, fewest) for count in COUNTS}
    simulated = prepared.simulate(mask)
    reference = _remembered(lambda features: embed_with_network(simulated, features))
    caught = {fault: [0] * len(COUNTS) for fault in FAULTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = pipeline.building.write(prepared, mask, folder, StageTimes())
        with pipeline.building.build(path, StageTimes()) as built:
            seconds = {
                count: statistics.median(_timed(run, mask, excerpts[count], built.runner)) for count in COUNTS
            }
        model = onnx.load(path)
        stored = constants_of(model.graph)
        # Some are computed in parts, which have other names.
        whole = [layer for layer in mask.layers if f"{layer}.weight_quantized" in stored]
        places = np.linspace(0, len(whole) - 1, min(num_layers, len(whole))).astype(int)
        layers = [whole[place] for place in places]
        cases = [(fault, layer) for fault in FAULTS for layer in layers]
        for fault, layer in track(cases, "faults", total=len(cases)):
            constant, change = FAULTS[fault]
            faulty = folder / "faulty.onnx"
            plant(model, stored[f"{layer}.{constant}"], change, faulty)
            with pipeline.building.runner.build(faulty, pipeline.building.lengths) as engine:
                for place, count in enumerate(COUNTS):
                    found = Agreement.of(embedding_by(engine), reference, excerpts[count], smallest)
                    caught[fault][place] += not found.is_enough
    return caught, seconds, smallest, len(layers)


def plant(
    model: onnx.ModelProto, constant: onnx.TensorProto, change: Callable[[Constant], Constant], path: Path
) -> None:
    """Write a model with one of its constants changed."""
    sound = onnx.TensorProto.FromString(constant.SerializeToString())
    constant.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(sound)), sound.name))
    onnx.save(model, path)
    constant.CopyFrom(sound)


def _remembered(embed: Embed) -> Embed:
    """The same, computed once for the same features."""
    kept: dict[bytes, Embeddings] = {}

    def remembered(features: Sequence[FeatureArray]) -> Embeddings:
        content = b"".join(each.tobytes() for each in features)
        if content not in kept:
            kept[content] = embed(features)
        return kept[content]

    return remembered


def _timed(run: OpenedRun, mask: Mask, excerpts: Sequence[FeatureArray], engine: Engine) -> list[float]:
    check = FidelityCheck(excerpts, -1.0)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        check.check(engine, check.simulate(run.evaluator.prepared, mask))
        seconds.append(time.perf_counter() - start)
    return seconds


def print_table(
    caught: dict[str, list[int]], seconds: dict[int, float], smallest: float, num_layers: int
) -> None:
    table = Table(
        title=f"caught in so many of {num_layers} layers, cosine {smallest}; {describe_cpu()}",
        title_justify="left",
    )
    table.add_column("fault")
    for count in COUNTS:
        table.add_column(f"{count} recordings", justify="right")
    for fault, found in caught.items():
        table.add_row(fault, *map(str, found))
    table.add_section()
    table.add_row("seconds of the check", *(f"{seconds[count]:.2f}" for count in COUNTS))
    table_console().print(table)


if __name__ == "__main__":
    main()
