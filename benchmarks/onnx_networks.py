"""What becomes of speaker networks that come as ONNX files: one row for each of them.

    python benchmarks/onnx_networks.py resnet34.onnx campplus.onnx ...

For each file: its nodes, its layers that can be quantized with their share of the weights, its units; then
for FP32, INT8 and 4 bits (GPTQ), the latter two with inputs rounded by ranges found at run time, too, in each
engine the smallest cosine to the simulation of the same mask, on noise of several lengths, and the time that
it takes as a share of FP32's, on one processor or more.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch

from speakerquant.architectures.layers import geometries, quantizable_layers, unreached_share
from speakerquant.architectures.onnx_file.config import OnnxFileConfig
from speakerquant.architectures.onnx_file.network import OnnxFileNetwork
from speakerquant.engine.backends import engine_builder
from speakerquant.engine.base import Engine
from speakerquant.engine.onnxruntime.converted_network import check_converted
from speakerquant.errors import UserError, first_line
from speakerquant.graph.export import export_network
from speakerquant.graph.masking import write_mask
from speakerquant.measuring.check import fidelity
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.hessians import gather_hessians
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.rounding import Rounding
from speakerquant.quantization.rounding_method import RoundingMethod
from speakerquant.quantization.simulate import simulate

ENGINES = ("onnxruntime", "openvino")
PRECISIONS = ("fp32", "int8", "int8_dynamic", "int4", "int4_dynamic")
LENGTHS = (120, 200, 301)
TIMED_FRAMES, TIMES = 300, 7

FeatureArray = npt.NDArray[np.float32]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    files = parser.parse_args().files
    logging.disable(logging.WARNING)
    columns = [f"{engine} {precision}" for engine in ENGINES for precision in PRECISIONS]
    print("| network | nodes | layers | weights reached | units | " + " | ".join(columns) + " |")
    print("|---" * (5 + len(columns)) + "|")
    for file in files:
        try:
            print(f"| {file.stem} | {' | '.join(row(file))} |", flush=True)
        except UserError as error:
            print(f"| {file.stem} | {error} |", flush=True)


def row(file: Path) -> list[str]:
    """The cells of one file after its name.

    Raises:
        UserError: it cannot be converted.
    """
    network = OnnxFileNetwork(OnnxFileConfig(str(file)))
    check_converted(network)
    recordings = noise(network.n_mels, LENGTHS, seed=0)
    calibration = [torch.from_numpy(each) for each in noise(network.n_mels, [200] * 4, seed=1)]
    table = calibrate(network, calibration, "max")
    hessians = gather_hessians(network, calibration)
    rounding = Rounding(RoundingMethod.descent, lambda: hessians)
    graph = export_network(network, network.n_mels)
    units = network.units()
    cells = [
        str(len(onnx.load(file, load_external_data=False).graph.node)),
        str(len(quantizable_layers(network))),
        f"{100 * (1 - unreached_share(network)):.1f} %",
        str(len(units)),
    ]
    for name in ENGINES:
        builder = engine_builder(name)
        baseline = None
        for precision in PRECISIONS:
            mask = Mask(units, {"*": precision})
            bits = builder.weight_bits()
            try:
                builder.check_mask(mask, geometries(network))
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "model.onnx"
                    write_mask(graph, mask, table, path, max_weight_bits=bits, rounding=rounding)
                    reference = embed_with_network(simulate(network, mask, table, bits, rounding), recordings)
                    with builder.build(path) as engine:
                        embeddings = np.stack(list(engine.embed_many(recordings)))
                        taken = seconds(engine, network.n_mels)
            except (UserError, RuntimeError) as error:
                cells.append(first_line(error)[:80])
                continue
            baseline = baseline or taken
            cells.append(f"{fidelity(embeddings, reference):.5f}, {taken / baseline:.2f}x")
    return cells


def noise(n_mels: int, lengths: Sequence[int], seed: int) -> list[FeatureArray]:
    """Features ``[n_mels, T]`` of each length."""
    generator = np.random.default_rng(seed)
    return [generator.standard_normal((n_mels, length)).astype(np.float32) for length in lengths]


def seconds(engine: Engine, n_mels: int) -> float:
    """Processor time of one embedding of three seconds, the shortest of a few."""
    features = noise(n_mels, [TIMED_FRAMES], seed=2)[0][np.newaxis]
    engine.embed(features)
    taken = []
    for _ in range(TIMES):
        start = time.process_time()
        engine.embed(features)
        taken.append(time.process_time() - start)
    return min(taken)


if __name__ == "__main__":
    main()
