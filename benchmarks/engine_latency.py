"""How fast the engines run: ``python benchmarks/engine_latency.py [--channels 1024 ...]``.

Every engine embeds the same recordings, each recording whole and in a request of its own, with as many
requests in flight as there are processors and one thread for each. Runs are interleaved and repeated; the
figures are medians. Weights are random: they do not change the speed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from speakerquant.architectures.checkpoints import random_model
from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED
from speakerquant.architectures.layers import geometries
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.audio.front_end import FrontEnd
from speakerquant.engine.base import Engine, FloatArray
from speakerquant.engine.cpu import available_cpus, describe_cpu
from speakerquant.engine.onnxruntime.onnxruntime_engine import OnnxRuntimeBuilder
from speakerquant.engine.openvino.openvino_engine import OpenVinoBuilder
from speakerquant.graph.export import export_network
from speakerquant.graph.masking import write_mask
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.mask import Mask, baseline_mask
from speakerquant.quantization.precision import INT2, INT4, INT4_DYNAMIC, INT8, INT8_DYNAMIC
from speakerquant.quantization.rounding import Rounding

Runner = Callable[[Sequence[FloatArray]], object]

FRONT_END = FrontEnd()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, nargs="+", default=[1024], help="widths of the network (C)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a recording")
    parser.add_argument("--recordings", type=int, default=16, help="recordings in a run")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each engine")
    arguments = parser.parse_args()
    console = Console()
    threads = available_cpus()
    torch.set_num_threads(1)
    console.print(f"{describe_cpu()}, {threads} threads")
    for channels in arguments.channels:
        network = random_model(ECAPA_TDNN, EcapaTdnnConfig(channels=channels), FRONT_END, seed=0).network
        recordings = _recordings(arguments.recordings, arguments.seconds)
        with tempfile.TemporaryDirectory() as folder:
            runners = _runners(network, recordings, threads, Path(folder))
        seconds = _medians(runners, recordings, arguments.repeats)
        title = f"C = {channels}, {arguments.recordings} recordings of {arguments.seconds:g} s"
        console.print(_table(title, seconds, len(recordings)))


def _recordings(count: int, seconds: float) -> list[FloatArray]:
    generator = np.random.default_rng(0)
    frames = int(seconds * FRONT_END.sample_rate / FRONT_END.hop_length)
    return list(generator.standard_normal((count, FRONT_END.n_mels, frames), dtype=np.float32))


def _runners(
    network: SpeakerNetwork, recordings: Sequence[FloatArray], threads: int, folder: Path
) -> dict[str, Runner]:
    units = network.units()
    table = calibrate(network, [torch.from_numpy(x) for x in recordings[:2]], "max")
    graph = export_network(network, network.n_mels)
    openvino = OpenVinoBuilder()
    builders = {"ONNX Runtime": OnnxRuntimeBuilder(), "OpenVINO": openvino}
    bits = openvino.weight_bits()
    masks = {
        "FP32": baseline_mask(units),
        "paper mask": Mask(units, dict.fromkeys(PUBLISHED.proposed_units, INT8)),
        "all INT8": Mask(units, {"*": INT8}),
        "all INT8, dynamic": Mask(units, {"*": INT8_DYNAMIC}),
        "all INT4": Mask(units, {"*": INT4}),
        "all INT4, dynamic": Mask(units, {"*": INT4_DYNAMIC}),
        "all INT2": Mask(units, {"*": INT2}),
    }
    rounding = Rounding()
    runners: dict[str, Runner] = {"PyTorch FP32": _pytorch(network, threads)}
    layers = geometries(network)
    for name, mask in masks.items():
        path = folder / f"{name}.onnx"
        write_mask(graph, mask, table, path, max_weight_bits=bits, rounding=rounding)
        for engine, builder in builders.items():
            if all(builder.runs(each, layers[layer]) for layer, each in mask.layers.items()):
                runners[f"{engine} {name}"] = _engine(builder.build(path))
    return runners


def _engine(engine: Engine) -> Runner:
    return lambda recordings: list(engine.embed_many(recordings))


def _pytorch(network: SpeakerNetwork, threads: int) -> Runner:
    def embed(features: FloatArray) -> torch.Tensor:
        with torch.inference_mode():
            embedding: torch.Tensor = network(torch.from_numpy(features)[None])
            return embedding

    return _in_parallel(embed, threads)


def _in_parallel(embed: Callable[[FloatArray], object], threads: int) -> Runner:
    pool = ThreadPoolExecutor(threads)
    return lambda recordings: list(pool.map(embed, recordings))


def _medians(runners: dict[str, Runner], recordings: Sequence[FloatArray], repeats: int) -> dict[str, float]:
    """Seconds per run; one more run of each warms it up."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(repeats + 1):
        for name, run in runners.items():
            start = time.perf_counter()
            run(recordings)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(measured[1:]) for name, measured in times.items()}


def _table(title: str, seconds: dict[str, float], recordings: int) -> Table:
    table = Table(title=title)
    table.add_column("engine")
    for column in ("ms per recording", "faster than OpenVINO FP32", "time of ONNX Runtime FP32"):
        table.add_column(column, justify="right")
    for name, measured in seconds.items():
        table.add_row(
            name,
            f"{1000 * measured / recordings:.1f}",
            f"{seconds['OpenVINO FP32'] / measured:.2f}x",
            f"{measured / seconds['ONNX Runtime FP32']:.2f}x",
        )
    return table


if __name__ == "__main__":
    main()
