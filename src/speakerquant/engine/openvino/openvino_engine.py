"""OpenVINO: the engine for machines without an NVIDIA GPU."""

import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import onnx
import openvino as ov
import torch
from openvino import opset13 as ops

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.engine.base import Engine, EngineBuilder, FloatArray, Lengths, is_eight_bit_or_float
from speakerquant.engine.cpu import describe_cpu
from speakerquant.engine.openvino.openvino_graph import adapt, shorten_names
from speakerquant.engine.openvino.packed_weights import (
    INPUT_GROUP_OPTION,
    can_round_frames,
    half_the_sum_of_one_group,
    keep_packed,
    readable,
)
from speakerquant.errors import UserError
from speakerquant.graph.masking import onnx_bits
from speakerquant.quantization.found_ranges import rounded_by_frame, rounds_frames
from speakerquant.quantization.precision import INPUT_GROUP, FloatType, Precision


def _compressed(text: bytes) -> bytes:
    return zlib.compress(text, zlib.Z_BEST_COMPRESSION)


def _decompressed(text: bytes) -> bytes:
    return zlib.decompressobj().decompress(text)  # which does not mind that zeros follow


_CONFIG = {
    # A blob describes its network in XML, long beside weights of 2 bits. What is made for encryption
    # may be any coding.
    "CACHE_ENCRYPTION_CALLBACKS": [_compressed, _decompressed],
    # FP32 means FP32: without this, processors with bf16 would use it.
    "INFERENCE_PRECISION_HINT": "f32",
    # One request per recording: many small requests in flight rather than all cores on one.
    "PERFORMANCE_HINT": "THROUGHPUT",
    # A compiled form is kept per input length and layer; unbounded, every new length takes 2 MB for good.
    "CPU_RUNTIME_CACHE_CAPACITY": 128,
}
_KERNEL_CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_KERNEL_BYTES, _MOST_KERNELS, _MEMORY_SHARE = 100_000, 16384, 16
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # a container's own
_PROBE_CHANNELS = 64


@cache
def _core() -> ov.Core:
    """The one core of this process, never destroyed.

    With AMX every core registers a signal stack, and several destroyed out of order leave a freed one
    behind: the next signal that Python handles, Ctrl-C too, would crash the process (OpenVINO 2026.4).
    """
    core = ov.Core()
    # OpenVINO's binding looks NumPy up at the first inference: two threads that get there together deadlock.
    source = ops.parameter([1], np.float32)
    core.compile_model(ov.Model([ops.relu(source)], [source]), "CPU")(np.zeros(1, np.float32))
    return core


@cache
def _has_avx512() -> bool:
    """Whether OpenVINO convolves with AVX-512, which the processor may have and the environment forbid."""
    features = ops.parameter([1, _PROBE_CHANNELS, 8], np.float32)
    weight = ops.constant(np.ones((_PROBE_CHANNELS, _PROBE_CHANNELS, 1), np.float32))
    convolution = ops.convolution(features, weight, [1], [0], [0], [1])
    compiled = _core().compile_model(ov.Model([convolution], [features]), "CPU", _CONFIG)
    kernels = [node.get_rt_info()["primitiveType"] for node in compiled.get_runtime_model().get_ops()]
    return any("avx512" in kernel.astype(str) for kernel in kernels)


@cache
def _exact_weight_bits() -> int:
    """By the largest sums of an INT8 convolution: without VNNI, two products overflow 16 bits."""
    features = ops.parameter([1, _PROBE_CHANNELS, 8], np.float32)
    quantized = ops.fake_quantize(features, *np.array([-128, 127, -128, 127], np.float32), 256)
    largest = ops.constant(np.full((_PROBE_CHANNELS, _PROBE_CHANNELS, 1), 127, np.int8))
    weight = ops.multiply(ops.convert(largest, np.float32), np.float32(1 / 127))
    convolution = ops.convolution(quantized, weight, [1], [0], [0], [1])
    compiled = _core().compile_model(ov.Model([convolution], [features]), "CPU", _CONFIG)
    sums = compiled(np.full((1, _PROBE_CHANNELS, 8), 127, np.float32))[0]
    return 8 if np.allclose(sums, _PROBE_CHANNELS * 127) else 7


@cache
def _rounds_frames() -> bool:
    """Whether products with packed weights round their inputs as the simulation does, if they are told to."""
    features = np.linspace(0, 1, INPUT_GROUP, dtype=np.float32)[np.newaxis] ** 3  # whose sum rounding changes
    expected = rounded_by_frame(torch.from_numpy(features), axis=1).sum() / 2
    try:
        outputs = _core().compile_model(half_the_sum_of_one_group(), "CPU", _CONFIG)(features)[0]
    except RuntimeError:  # the processor could, and the environment forbids it
        return False
    return np.allclose(outputs, expected)


class OpenVinoEngine(Engine):
    """Runs a blob that OpenVINO's CPU plugin exported."""

    def __init__(self, serialized: bytes) -> None:
        super().__init__(serialized)
        compiled = _core().import_model(serialized, "CPU", _CONFIG)
        if compiled.get_property(INPUT_GROUP_OPTION) not in (0, INPUT_GROUP):  # of a version that stored none
            compiled = _core().import_model(serialized, "CPU", {**_CONFIG, INPUT_GROUP_OPTION: 0})
        self._process = os.getpid()
        self._parallel_requests = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        # Made once and lent: however many threads ask, no more run than the machine has room for.
        self._requests: SimpleQueue[ov.InferRequest] = SimpleQueue()
        for _ in range(self._parallel_requests):
            self._requests.put(compiled.create_infer_request())

    @property
    def parallel_requests(self) -> int:
        return self._parallel_requests

    def embed(self, features: FloatArray) -> FloatArray:
        if os.getpid() != self._process:  # whose threads a fork lacks, and would wait for until it is killed
            raise UserError(
                "OpenVINO's engine was loaded before this process was forked, and cannot run in it; start "
                "processes by spawn, or load it in each of them and not before"
            )
        if features.shape[0] == features.shape[2] == 1:
            # With AMX, OpenVINO 2026.4 mixes up the channels of INT8 layers on one frame of one recording.
            return self.embed(np.repeat(features, 2, axis=0))[:1]
        request = self._requests.get()
        try:
            embeddings: FloatArray = request.infer([np.ascontiguousarray(features)])[0].copy()
        finally:
            self._requests.put(request)
        return embeddings


class OpenVinoBuilder(EngineBuilder):
    """Compiles for the CPU of this machine."""

    name = "openvino"
    bound_to = ("OpenVINO",)

    @property
    def environment(self) -> Mapping[str, str]:
        return {"OpenVINO": version("openvino"), "CPU": describe_cpu()}

    def expect_many_engines(self) -> None:
        """Kernels are made for each layer at each length; oneDNN keeps 1024, which some 25 lengths fill.

        It reads how many it shall keep when this process makes the first.
        """
        if not hasattr(os, "sysconf"):
            return  # as on Windows
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        with suppress(OSError, ValueError):  # there is no such file, or no limit in it
            memory = min(memory, int(_MEMORY_LIMIT.read_text(encoding="utf-8")))
        kept = min(_MOST_KERNELS, memory // _MEMORY_SHARE // _KERNEL_BYTES)
        os.environ.setdefault(_KERNEL_CACHE, str(kept))

    def runs(self, precision: Precision, geometry: LayerGeometry) -> bool:
        if precision.arithmetic is not FloatType.float32:
            return False
        if rounds_frames(precision, geometry):
            return can_round_frames(onnx_bits(precision)) and _rounds_frames()
        return is_eight_bit_or_float(precision) or precision.has_integer_weights_only

    def exact_weight_bits(self) -> int:
        return _exact_weight_bits()

    def _build(self, onnx_path: Path, lengths: Lengths) -> Engine:
        try:
            network = onnx.load(onnx_path)
            model = keep_packed(_core().read_model(readable(onnx_path, network)), network)
            adapt(model, network, matrix_products=not _has_avx512())
            shorten_names(model)
            blob = _core().compile_model(model, "CPU", _CONFIG).export_model()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1]  # the lines before say where in OpenVINO's sources
            raise UserError(f"{onnx_path}: OpenVINO cannot build it ({reason})") from None
        return self._deserialize(blob.getvalue())

    def _deserialize(self, serialized: bytes) -> Engine:
        try:
            return OpenVinoEngine(serialized)
        except RuntimeError:
            raise UserError("OpenVINO cannot run it here; build it again") from None
