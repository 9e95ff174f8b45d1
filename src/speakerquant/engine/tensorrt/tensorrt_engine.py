"""TensorRT: the engine for NVIDIA GPUs, built and run in a child process (:mod:`.worker`)."""

import getpass
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.cache import Cache
from speakerquant.engine.base import Engine, EngineBuilder, FloatArray, Lengths, is_eight_bit_or_float
from speakerquant.engine.provenance import MAX_FRAMES
from speakerquant.engine.tensorrt.tensorrt_graph import adapt, computes_in_half, is_quantized
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtSettings
from speakerquant.engine.tensorrt.worker_process import WorkerProcess
from speakerquant.errors import UserError
from speakerquant.quantization.precision import Precision

_WORKER = Path(__file__).parent / "worker"
_MEGABYTE = 10**6
_NO_PART_OF_THE_ENGINE = ("python", "time_limit")


class TensorRtEngine(Engine):
    """A plan, loaded in a worker that gives the GPU's memory back when it ends."""

    def __init__(self, plan: bytes, worker: WorkerProcess) -> None:
        super().__init__(plan)
        self._worker = worker
        worker.ask("load", plan)

    def close(self) -> None:
        self._worker.close()

    @property
    def parallel_requests(self) -> int:
        return 1

    def embed(self, features: FloatArray) -> FloatArray:
        """See :meth:`Engine.embed`.

        Raises:
            UserError: the recording is longer than the engine was built for, or the worker failed.
        """
        return np.concatenate([self._embed(recording) for recording in features])

    def _embed(self, recording: FloatArray) -> FloatArray:
        # one at a time, which every plan takes, whatever batches it was built for
        payload = np.ascontiguousarray(recording, np.float32).tobytes()
        answer, embeddings = self._worker.ask("embed", payload, shape=[1, *recording.shape])
        return np.frombuffer(embeddings, np.float32).reshape(answer["shape"])


class TensorRtBuilder(EngineBuilder):
    """Builds with the TensorRT of ``settings.python``, for the GPU of this machine.

    Args:
        settings: How to build.
        cache: Keeps the timings of kernels, per version and GPU: a second mask asks for mostly the same ones.

    Attributes:
        product: What its makers call it.
        package: Python package that the worker uses.

    Raises:
        UserError: there is no TensorRT or no GPU.
    """

    name = "tensorrt"
    product = "TensorRT"
    package = "tensorrt"
    bound_to = ("TensorRT", "compute capability")

    def __init__(self, settings: TensorRtSettings, cache: Cache) -> None:
        self._given = settings
        self._cache = cache
        # A run's have others beside TensorRT's, and what TensorRT for RTX builds for is the environment's.
        names = [field.name for field in fields(TensorRtSettings) if field.name not in _NO_PART_OF_THE_ENGINE]
        given = {name: getattr(settings, name) for name in names}
        self.settings = {name: str(value) for name, value in given.items() if value is not None}
        self._python = settings.interpreter
        self._described = _described(self._python, self.product, self.package, settings.time_limit)

    @property
    def environment(self) -> Mapping[str, str]:
        environment: Mapping[str, str] = self._described["environment"]
        return environment

    def given_network(self, onnx_path: Path) -> onnx.ModelProto:
        network = onnx.load(onnx_path)
        self._adapt(network)
        return network

    def runs(self, precision: Precision, geometry: LayerGeometry) -> bool:
        return is_eight_bit_or_float(precision)

    def _build(self, onnx_path: Path, lengths: Lengths) -> Engine:
        given, frames = self._given, self._frames(lengths)
        network = self.given_network(onnx_path)
        with self._worker() as worker, tempfile.TemporaryDirectory() as folder:
            given_path = Path(folder) / "network.onnx"
            onnx.save(network, given_path)
            try:
                _, plan = worker.ask(
                    "build",
                    onnx=str(given_path),
                    frames=frames,
                    max_batch=given.max_batch,
                    int8=is_quantized(network),
                    fp16=computes_in_half(network),
                    workspace_bytes=given.workspace_mb and given.workspace_mb * _MEGABYTE,
                    optimization_level=given.optimization_level,
                    timing_cache=str(self._timing_cache()),
                    **self._target,
                )
            except UserError as error:
                raise UserError(f"{onnx_path}: {error}") from None
            return self._made_ready(plan, worker)

    def _settings_by_length(self, lengths: Lengths) -> Mapping[str, str]:
        _, usual, longest = self._frames(lengths)
        return {"opt_frames": str(usual), MAX_FRAMES: str(longest)}

    def _frames(self, lengths: Lengths) -> tuple[int, int, int]:
        """Frames of the shortest recording of a plan, of the usual one, and of the longest."""
        longest = self._given.max_frames or lengths.longest
        if longest < lengths.longest:
            raise UserError(
                f"engine.max_frames={longest}: the longest recording has {lengths.longest} frames; raise it"
            )
        usual = max(self._given.opt_frames or lengths.typical, lengths.shortest)
        return lengths.shortest, min(usual, longest), longest

    def _adapt(self, network: onnx.ModelProto) -> None:
        """Change a network, in place, to the form that is built best."""
        adapt(network)

    @property
    def _target(self) -> Mapping[str, Any]:
        """What to build for, if not for the GPU of this machine, as the worker takes it."""
        return {}

    def _made_ready(self, plan: bytes, worker: WorkerProcess) -> Engine:
        """The engine of a plan that the worker has just built."""
        return TensorRtEngine(plan, worker)

    def _deserialize(self, serialized: bytes) -> Engine:
        with self._worker() as worker:
            return TensorRtEngine(serialized, worker)

    @contextmanager
    def _worker(self) -> Iterator[WorkerProcess]:
        """A new worker, ended if the block fails: the exception may live long, the GPU's memory must not."""
        worker = _start(self._python, self.product, self.package, self._given.time_limit)
        try:
            yield worker
        except BaseException:
            worker.close()
            raise

    def _timing_cache(self) -> Path:
        # Each user's own: Polygraphy writes it, which knows nothing of a shared cache's permissions.
        name = "-".join([*self.environment.values(), _user()]).replace("/", "_").replace(" ", "_")
        return self._cache.folder("kernel_timings") / name


def _start(python: str, product: str, package: str, time_limit: float) -> WorkerProcess:
    # Without PYTHONPATH and its like, which belong to this interpreter.
    without = [] if python == sys.executable else ["-E"]
    return WorkerProcess([python, *without, str(_WORKER), package], f"{product} of {python}", time_limit)


def _user() -> str:
    """Who runs this; by number, as many containers have no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


@cache
def _described(python: str, product: str, package: str, time_limit: float) -> Mapping[str, Any]:
    """What the worker says of versions and devices."""
    with closing(_start(python, product, package, time_limit)) as worker:
        answer, _ = worker.ask("describe")
    return answer
