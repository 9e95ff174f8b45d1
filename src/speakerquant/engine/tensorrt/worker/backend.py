"""Builds and runs engines with TensorRT through NVIDIA's Polygraphy, which knows how its versions differ."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from gpu import describe_gpu
from polygraphy.backend.trt import (
    CreateConfig,
    EngineBytesFromNetwork,
    EngineFromBytes,
    NetworkFromOnnxPath,
    Profile,
    TrtRunner,
)
from polygraphy.exception import PolygraphyException
from polygraphy.logger import G_LOGGER
from protocol import Message, Operation, WorkerError

trt = import_module(sys.argv[1])

# From here on the types in the network say all about precision; in 11 there is no other way.
_STRONGLY_TYPED_SINCE = 10
_ARITHMETIC = {
    *("ACTIVATION", "CONVOLUTION", "DECONVOLUTION", "EINSUM", "ELEMENTWISE", "FULLY_CONNECTED"),
    *("MATRIX_MULTIPLY", "NORMALIZATION", "PARAMETRIC_RELU", "POOLING", "REDUCE", "SCALE", "SOFTMAX"),
    "UNARY",
}
# Loaded from libraries outside TensorRT, which need not be installed; by default up to version 8.5.
_EXTERNAL_TACTICS = ("CUBLAS", "CUDNN")


def operations() -> Mapping[str, Operation]:
    """What the worker does, by name.

    Raises:
        WorkerError: there is no GPU.
    """
    return Backend(describe_gpu()).operations()


class Backend:
    """TensorRT for the GPU of this machine.

    Args:
        gpu: What :func:`gpu.describe_gpu` says of it.
    """

    strongly_typed = int(trt.__version__.split(".")[0]) >= _STRONGLY_TYPED_SINCE

    def __init__(self, gpu: Mapping[str, str]) -> None:
        self._gpu = gpu
        self._errors = _ErrorLog()
        self._runner = None  # type: Any

    def operations(self) -> Mapping[str, Operation]:
        """The operations that the other process may ask for, by name."""
        return {
            "describe": self.describe,
            "build": self.build,
            "load": self.load,
            "embed": self.embed,
        }

    def describe(self, payload: bytes) -> Message:
        """Versions and devices, by name."""
        return {"environment": {"TensorRT": trt.__version__, **self._gpu}}, b""

    def build(
        self,
        payload: bytes,
        onnx: str,
        frames: list[int],
        max_batch: int,
        int8: bool,
        fp16: bool,
        workspace_bytes: int | None,
        optimization_level: int | None,
        timing_cache: str,
        **target: Any,
    ) -> Message:
        """The plan of an ONNX file, ``features [B, n_mels, T]`` to ``embeddings``.

        Args:
            onnx: Path of the file; a quantized one has Q/DQ nodes and nothing between them and the layer.
            frames: Smallest T, the T to optimise for, largest T.
            max_batch: Largest B.
            int8: Whether there are Q/DQ nodes.
            fp16: Whether there are FP16 layers.
            workspace_bytes: Most scratch memory for a layer.
            optimization_level: 0 to 5.
            timing_cache: File of kernel timings to use and to add to; locked, and merged with what is there.
            target: What to build for, where that is not the GPU of this machine.
        """
        network = NetworkFromOnnxPath(onnx, strongly_typed=self.strongly_typed)
        with self._errors.explained("the engine could not be built"):
            parsed = network()
            n_mels = parsed[1].get_input(0).shape[1]
            common = {
                "profiles": [Profile().add("features", *_shapes(n_mels, frames, max_batch))],
                "load_timing_cache": timing_cache,
                "profiling_verbosity": trt.ProfilingVerbosity.LAYER_NAMES_ONLY,
                "builder_optimization_level": optimization_level,
                "memory_pool_limits": workspace_bytes and {trt.MemoryPoolType.WORKSPACE: workspace_bytes},
            }
            config = self._config(parsed[1], common, int8=int8, fp16=fp16, **target)
            plan = EngineBytesFromNetwork(parsed, config, save_timing_cache=timing_cache)()
        return {}, bytes(plan)

    def _config(self, network: Any, common: Mapping[str, Any], *, int8: bool, fp16: bool) -> Any:
        """Polygraphy's configuration of a build, from what is the same wherever the engine is to run."""
        if self.strongly_typed:
            return CreateConfig(**common, tf32=False)
        if fp16:
            for layer in arithmetic_in_fp32(network):
                layer.precision = trt.float32
        return CreateConfig(
            **common,
            tf32=False,
            tactic_sources=_own_tactics(),
            int8=int8,
            fp16=fp16,
            precision_constraints="prefer" if fp16 else None,
        )

    def load(self, payload: bytes) -> Message:
        """Make a plan ready to run."""
        with self._errors.explained("the engine could not be loaded"):
            self._runner = TrtRunner(EngineFromBytes(payload))
            self._runner.activate()
        return {}, b""

    def embed(self, payload: bytes, shape: list[int]) -> Message:
        """Embeddings of features ``[B, n_mels, T]``."""
        features = np.frombuffer(payload, np.float32).reshape(shape)
        with self._errors.explained("the engine could not be run"):
            embeddings = self._runner.infer({"features": features})["embeddings"]
        return {"shape": list(embeddings.shape)}, np.ascontiguousarray(embeddings, np.float32).tobytes()


class _ErrorLog(logging.Handler):
    """What TensorRT says through Polygraphy: its exceptions only say that something went wrong."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._lines = []  # type: list[str]
        G_LOGGER.use_python_logging_system = True
        G_LOGGER.python_logger.addHandler(self)
        G_LOGGER.python_logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if line not in self._lines:
            self._lines.append(line)

    @contextmanager
    def explained(self, summary: str) -> Iterator[None]:
        """A block whose failures are told with what was logged meanwhile."""
        self._lines.clear()
        try:
            yield
        except (PolygraphyException, MemoryError, RuntimeError, TypeError) as error:
            raise WorkerError("{}: {}".format(summary, "; ".join(self._lines) or error)) from error


def _shapes(n_mels: int, frames: list[int], max_batch: int) -> list[tuple[int, int, int]]:
    """Smallest, usual and largest shape of the input."""
    shortest, usual, longest = frames
    return [(1, n_mels, shortest), (1, n_mels, usual), (max_batch, n_mels, longest)]


def arithmetic_in_fp32(network: Any) -> Iterator[Any]:
    """What is to be told to stay in FP32: a builder that does not heed types may take FP16 anywhere.

    FP16 is meant for what lies between casts, and what is dequantized must be free to become INT8.
    """
    dequantized = {layer.get_output(0).name for layer in network if layer.type == trt.LayerType.DEQUANTIZE}
    for layer in network:
        if layer.type.name in _ARITHMETIC:
            source, made = layer.get_input(0), layer.get_output(0)
            if source.dtype == made.dtype == trt.float32 and source.name not in dequantized:
                yield layer


def _own_tactics() -> list[Any]:
    members = trt.TacticSource.__members__
    return [source for name, source in members.items() if not name.startswith(_EXTERNAL_TACTICS)]
