"""What holds for the OpenVINO engine beyond the contract of all engines."""

import gc
import json
import multiprocessing
import os
import platform
import re
import signal
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from conftest import Subject, write_model
from processes import Program
from torch import nn

from speakerquant.architectures.layers import LayerGeometry, LayerKind, QuantizableLayer
from speakerquant.engine.base import Engine
from speakerquant.engine.cpu import describe_cpu
from speakerquant.engine.openvino import openvino_engine
from speakerquant.engine.openvino.openvino_engine import OpenVinoBuilder, OpenVinoEngine
from speakerquant.engine.provenance import MASK, WEIGHT_BITS, provenance_path
from speakerquant.errors import UserError
from speakerquant.measuring.check import fidelity
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.named_masks import named_mask
from speakerquant.quantization.precision import INT4, INT4_DYNAMIC, INT8
from speakerquant.quantization.simulate import simulate

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]

lesser_cpus = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="only x86 processors can pose as lesser ones"
)


def test_fp32_is_fp32(small: Subject, tmp_path: Path) -> None:
    write_model(small.network, tmp_path / "model.onnx")
    engine = OpenVinoBuilder().build(tmp_path / "model.onnx")
    embeddings = np.stack(list(engine.embed_many(small.recordings)))
    reference = embed_with_network(small.network, small.recordings)
    assert np.linalg.norm(embeddings - reference) < 1e-5 * np.linalg.norm(reference)


def test_a_process_forked_after_the_engine_was_loaded_is_refused_instead_of_waiting_for_good(
    small: Subject, tmp_path: Path
) -> None:
    write_model(small.network, tmp_path / "model.onnx")
    engine = OpenVinoBuilder().build(tmp_path / "model.onnx")
    processes = multiprocessing.get_context("fork")
    said, saying = processes.Pipe(duplex=False)

    def embed() -> None:
        try:
            engine.embed(small.recordings[0][np.newaxis])
        except UserError as error:
            saying.send(str(error))

    forked = processes.Process(target=embed)
    forked.start()
    try:
        assert said.poll(20), "it hangs"
        assert "start processes by spawn" in said.recv()
    finally:
        forked.kill()
        forked.join()


def compiled_by_openvino_alone(engine: Engine, folder: Path) -> ov.CompiledModel:
    """As docs/deployment.md says."""
    engine.save(folder / "engine.openvino")
    coding = [zlib.compress, lambda text: zlib.decompressobj().decompress(text)]
    serialized = (folder / "engine.openvino").read_bytes()
    config = {"CACHE_ENCRYPTION_CALLBACKS": coding, "INFERENCE_PRECISION_HINT": "f32"}
    return ov.Core().import_model(serialized, "CPU", config)


def skip_unless_frames_are_rounded() -> None:
    if not OpenVinoBuilder().runs(INT4_DYNAMIC, LayerGeometry(LayerKind.linear, 64, 64)):
        pytest.skip("OpenVINO rounds inputs of products by frame only where there is VNNI")


@pytest.mark.parametrize("mask", ["all_int4", "all_int4_dynamic"])
def test_another_program_runs_an_engine_by_openvino_alone(small: Subject, mask: str, tmp_path: Path) -> None:
    if mask == "all_int4_dynamic":
        skip_unless_frames_are_rounded()
    write_model(small.network, tmp_path / "model.onnx", named_mask(mask, small.network.units(), {}))
    engine = OpenVinoBuilder().build(tmp_path / "model.onnx")
    network = compiled_by_openvino_alone(engine, tmp_path)
    features = small.recordings[0][np.newaxis]
    assert np.array_equal(network(features)[0], engine.embed(features))


def test_a_layer_rounds_frames_where_its_mask_says_so_whatever_others_do(
    small: Subject, tmp_path: Path
) -> None:
    skip_unless_frames_are_rounded()
    units = small.network.units()
    others = {"se_res2block1": "int4", "se_res2block2": "int4_channel", "attentive_pooling": "int2"}
    precisions, exact = ({"*": each, **others} for each in (INT4_DYNAMIC, INT4))
    write_model(small.network, tmp_path / "model.onnx", Mask(units, precisions), small.table)
    rounded, unrounded = (
        embed_with_network(simulate(small.network, Mask(units, each), small.table), small.recordings)
        for each in (precisions, exact)
    )
    engine = OpenVinoBuilder().build(tmp_path / "model.onnx")
    embeddings = np.stack(list(engine.embed_many(small.recordings)))
    lost = 1 - fidelity(embeddings, rounded)
    assert lost < 0.05 * (1 - fidelity(embeddings, unrounded)), lost


@pytest.mark.parametrize(
    "layer",
    [nn.Conv1d(64, 1, 1), nn.Conv1d(80, 64, 1), nn.Conv1d(128, 64, 1, groups=2), nn.Conv2d(64, 64, 1)],
    ids=str,
)
def test_a_layer_whose_input_is_not_rounded_by_frame_is_run_everywhere(layer: QuantizableLayer) -> None:
    assert OpenVinoBuilder().runs(INT4_DYNAMIC, LayerGeometry.of(layer))


def test_an_engine_that_stores_no_groups_of_inputs_rounds_none(small: Subject, tmp_path: Path) -> None:
    """As those of versions before did, for which OpenVINO would take 32."""
    write_model(small.network, tmp_path / "model.onnx", named_mask("all_int4", small.network.units(), {}))
    engine = OpenVinoBuilder().build(tmp_path / "model.onnx")
    written: list[bytes] = []

    def without_groups(text: bytes) -> bytes:
        written.append(text)
        return zlib.compress(re.sub(rb"<runtime_options>.*?</runtime_options>", b"", text, flags=re.DOTALL))

    blob = ov.Core().import_model(
        engine.serialized,
        "CPU",
        {"CACHE_ENCRYPTION_CALLBACKS": [without_groups, lambda text: zlib.decompressobj().decompress(text)]},
    )
    former = OpenVinoEngine(blob.export_model().getvalue())
    features = small.recordings[0][np.newaxis]
    assert any(b"DYNAMIC_QUANTIZATION_GROUP_SIZE" in text for text in written)
    assert np.array_equal(former.embed(features), engine.embed(features))


def test_values_stay_as_products_read_them(small: Subject, tmp_path: Path) -> None:
    """Exchanging time and channels around each of them would take a fifth of the time."""
    write_model(small.network, tmp_path / "model.onnx", named_mask("all_int4", small.network.units(), {}))
    engine = OpenVinoBuilder().build(tmp_path / "model.onnx")
    operations = compiled_by_openvino_alone(engine, tmp_path).get_runtime_model().get_ops()
    kinds = [operation.get_rt_info()["layerType"].astype(str) for operation in operations]
    assert kinds.count("FullyConnected") > 20
    assert kinds.count("Transpose") <= 2


def test_the_description_takes_little_beside_packed_weights(small: Subject, tmp_path: Path) -> None:
    write_model(small.network, tmp_path / "model.onnx", named_mask("all_int2", small.network.units(), {}))
    engine = OpenVinoBuilder().build(tmp_path / "model.onnx")
    stored = onnx.load(tmp_path / "model.onnx").graph.initializer
    assert engine.size_bytes < 1.1 * sum(len(tensor.raw_data) for tensor in stored) + 40_000


def memory_over_lengths(path: Path) -> None:
    """Print by how many megabytes an engine has grown over the lengths that came after the first hundred."""

    def megabytes() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    lengths = np.random.default_rng(0).permutation(np.arange(20, 220))
    recordings = (np.ones((80, length), np.float32) for length in lengths)
    for index, _ in enumerate(OpenVinoBuilder().build(path).embed_many(recordings)):
        if index == 100:
            before = megabytes()
    print(megabytes() - before)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_memory_is_bounded_over_many_lengths(small: Subject, tmp_path: Path) -> None:
    mask = Mask(small.network.units(), {"*": INT8})
    path = tmp_path / "model.onnx"
    write_model(small.network, path, mask, small.table)
    code, grown = Program(memory_over_lengths, path, ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024").end()
    assert code == 0, grown
    assert float(grown) <= 50  # without a bound it grows by 150


def run_tests(*tests: str) -> None:
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *tests]))


@lesser_cpus
@pytest.mark.parametrize(
    ("instructions", "beyond"),
    [("AVX2", {"avx_vnni", "avx512f"}), ("AVX512_CORE_VNNI", {"amx_int8"})],
)
def test_computes_what_the_mask_says_on_lesser_cpus(instructions: str, beyond: set[str]) -> None:
    if not any(name in describe_cpu() for name in beyond):
        pytest.skip(f"this processor has nothing beyond {instructions}: the contract's tests have run on it")
    tests = [
        *(
            f"contract/test_engine.py::test_computes_what_the_mask_says[openvino-small-{mask}]"
            for mask in ("paper", "all")
        ),
        "engine/test_openvino_graph.py",
    ]
    code, printed = Program(run_tests, *tests, folder=TESTS, ONEDNN_MAX_CPU_ISA=instructions).end()
    assert code == 0, printed


def print_weight_bits() -> None:
    print(OpenVinoBuilder().weight_bits("auto"))


@lesser_cpus
@pytest.mark.parametrize(
    ("instructions", "bits"),
    [
        ("AVX2", 7),
        pytest.param(
            "ALL",
            8,
            marks=pytest.mark.skipif("vnni" not in describe_cpu(), reason="this processor has no VNNI"),
        ),
    ],
)
def test_weight_bits_follow_the_processor(instructions: str, bits: int) -> None:
    code, printed = Program(print_weight_bits, ONEDNN_MAX_CPU_ISA=instructions).end()
    assert (code, printed) == (0, f"{bits}\n")


def load_engines_of_another_processor(*models: str) -> None:
    """Build an engine of each model, as if elsewhere, and print what becomes of it here."""
    for model in models:
        path = Path(model).with_suffix(".openvino")
        OpenVinoBuilder().build(Path(model)).save(path)
        record = json.loads(provenance_path(path).read_text())
        record["environment"]["CPU"] = "another one (avx2, avx512_vnni)"
        provenance_path(path).write_text(json.dumps(record))
        try:
            OpenVinoBuilder().load(path).close()
        except UserError as error:
            print(f"refused: {error}")
        else:
            print(f"loaded: {path}")


@lesser_cpus
def test_an_engine_whose_sums_overflow_on_this_processor_is_refused(small: Subject, tmp_path: Path) -> None:
    """As when it was built on a processor with VNNI and carried to one without."""
    overflows = {}
    for mask, weight_bits in (("all", 8), ("all", 7), ("none", 8)):
        model = tmp_path / f"{mask}{weight_bits}.onnx"
        overflows[str(model)] = mask == "all" and weight_bits == 8
        chosen = named_mask(mask, small.network.units(), {})
        properties = {MASK: chosen.key, WEIGHT_BITS: str(weight_bits)}
        write_model(small.network, model, chosen, small.table, weight_bits, properties)
    # In one process: OpenVINO itself refuses what was compiled for other vector instructions.
    code, printed = Program(load_engines_of_another_processor, *overflows, ONEDNN_MAX_CPU_ISA="AVX2").end()
    assert code == 0, printed
    lines = [line for line in printed.splitlines() if line.startswith(("loaded: ", "refused: "))]
    refused = "where sums of 8-bit weights overflow; build it here, or with engine.weight_bits=7"
    for line, (model, overflow) in zip(lines, overflows.items(), strict=True):
        path = str(Path(model).with_suffix(".openvino"))
        assert path in line and (refused in line if overflow else line == f"loaded: {path}")


def build_engines_and_terminate(path: Path) -> None:
    def engines() -> None:
        kept = [OpenVinoBuilder().build(path) for _ in range(3)]
        while kept:
            del kept[0]
            gc.collect()

    engines()
    other = threading.Thread(target=engines)
    other.start()
    other.join()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.raise_signal(signal.SIGTERM)


def test_signals_are_survived_after_engines_came_and_went(small: Subject, tmp_path: Path) -> None:
    """Ctrl-C must reach Python: on processors with AMX, OpenVINO's own signal stacks could crash it."""
    path = tmp_path / "model.onnx"
    write_model(small.network, path)
    code, printed = Program(build_engines_and_terminate, path).end()
    assert code == 143, printed


def test_kernels_are_kept_in_a_share_of_the_containers_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    for limit in (64_000_000, "max"):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        monkeypatch.setattr(openvino_engine, "_MEMORY_LIMIT", tmp_path / "memory.max")
        monkeypatch.setattr(os, "environ", {})
        OpenVinoBuilder().expect_many_engines()
        kept.append(int(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]))
    assert kept[0] == 40 < kept[1]
