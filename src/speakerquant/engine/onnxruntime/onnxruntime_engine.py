"""ONNX Runtime: the reference arithmetic, on any machine.

INT8 is computed in integers, exactly and on every processor alike. Integer weights alone become FP32 when an
engine is loaded.
"""

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.engine.base import Engine, EngineBuilder, FloatArray, Lengths
from speakerquant.engine.cpu import available_cpus, describe_cpu
from speakerquant.errors import UserError, first_line
from speakerquant.graph.integer_products import (
    compute_in_integers,
    finds_ranges,
    has_integer_products,
    sign_second_factors,
)
from speakerquant.quantization.precision import FloatType, Precision

_CUDA = "CUDAExecutionProvider"
_PROVIDER_OPTIONS: dict[str, dict[str, Any]] = {
    # FP32 means FP32. Every length would otherwise be searched for its fastest algorithm.
    _CUDA: {"use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"},
    "CPUExecutionProvider": {},
}
_ERROR = 3


class OnnxRuntimeEngine(Engine):
    """Runs an optimized model, one request per processor."""

    def __init__(self, serialized: bytes) -> None:
        super().__init__(serialized)
        model = onnx.load_from_string(serialized)
        self._finds_ranges = finds_ranges(model)
        options = _options()
        # Integer weights become FP32 now, and not again and again in every request.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        if has_integer_products(model):  # the fastest that this processor computes exactly
            sign_second_factors(model, adds_in_32_bits=_adds_in_32_bits())
            serialized = model.SerializeToString()
        self._session = ort.InferenceSession(serialized, options, providers=_providers())

    @property
    def parallel_requests(self) -> int:
        return available_cpus()

    def embed(self, features: FloatArray) -> FloatArray:
        # A range that is found at run time is that of a whole request.
        requests = [each[np.newaxis] for each in features] if self._finds_ranges else [features]
        found = [self._session.run(None, {"features": np.ascontiguousarray(each)})[0] for each in requests]
        return np.concatenate(found)


class OnnxRuntimeBuilder(EngineBuilder):
    """Optimizes for this machine; uses CUDA where ONNX Runtime's build for it is installed."""

    name = "onnxruntime"

    @property
    def environment(self) -> Mapping[str, str]:
        return {"ONNX Runtime": ort.__version__, "provider": _providers()[0][0], "CPU": describe_cpu()}

    def runs(self, precision: Precision, geometry: LayerGeometry) -> bool:
        """Whatever is stored in eight bits or fewer, since it can be dequantized and computed in FP32."""
        return precision.arithmetic is FloatType.float32

    def _build(self, onnx_path: Path, lengths: Lengths) -> Engine:
        with tempfile.TemporaryDirectory() as folder:
            adapted, optimized = Path(folder) / "adapted.onnx", Path(folder) / "optimized.onnx"
            options = _options()
            options.optimized_model_filepath = str(optimized)
            # Beyond this level, models are laid out for one processor; that is done when they are loaded.
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            # Products with weights of 4 bits would round their inputs to INT8 (4); 1 is FP32.
            options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
            try:
                network = onnx.load(onnx_path)
                if _providers()[0][0] != _CUDA:  # which has none of these operations
                    compute_in_integers(network)
                onnx.save(network, adapted)
                ort.InferenceSession(adapted, options, providers=_providers())
            except Exception as error:  # its exceptions have no common base of their own
                raise UserError(f"{onnx_path}: ONNX Runtime cannot build it ({first_line(error)})") from None
            return self._deserialize(optimized.read_bytes())

    def _deserialize(self, serialized: bytes) -> Engine:
        try:
            return OnnxRuntimeEngine(serialized)
        except Exception:  # as above
            raise UserError("ONNX Runtime cannot run it here; build it again") from None


@cache
def _adds_in_32_bits() -> bool:
    """By the largest sums of unsigned and signed bytes: without VNNI, two products overflow 16 bits."""
    unsigned, signed = np.full((64, 64), 255, np.uint8), np.full((64, 64), 127, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["unsigned", "signed"], ["sums"])],
        "largest_sums",
        [helper.make_tensor_value_info("unsigned", TensorProto.UINT8, unsigned.shape)],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, signed.shape)],
        [numpy_helper.from_array(signed, "signed")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), _options(), providers=_providers())
    sums = session.run(None, {"unsigned": unsigned})[0]
    return bool((sums == 64 * 255 * 127).all())


def _providers() -> list[tuple[str, dict[str, Any]]]:
    available = ort.get_available_providers()
    return [(name, options) for name, options in _PROVIDER_OPTIONS.items() if name in available]


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # many small requests in flight rather than all cores on one
    options.log_severity_level = _ERROR
    return options
