"""TensorRT for RTX: engines for desktop GPUs, built on any machine and run where such a GPU is."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.cache import Cache
from speakerquant.engine.base import Engine, FloatArray
from speakerquant.engine.tensorrt.packed_products import stays_packed
from speakerquant.engine.tensorrt.tensorrt_engine import TensorRtBuilder
from speakerquant.engine.tensorrt.tensorrt_graph import adapt
from speakerquant.engine.tensorrt.tensorrt_rtx_graph import convolve_groups_apart, quantize_in_equal_steps
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtRtxSettings
from speakerquant.engine.tensorrt.worker_process import WorkerProcess
from speakerquant.errors import UserError
from speakerquant.quantization.precision import FP32, Precision

PAPERS_GPU = "8.6"
"""Compute capability of the RTX 3090, on which the paper's engines ran."""

_PACKED_BITS = 4
_CURRENT = "current"
_VERSION, _CAPABILITY, _GPU = "TensorRT for RTX", "compute capability", "GPU"


class BuiltEngine(Engine):
    """A plan for a GPU that is not here: it can be weighed and saved.

    Args:
        plan: The plan.
        reason: Why it cannot run here.
    """

    def __init__(self, plan: bytes, reason: str) -> None:
        super().__init__(plan)
        self._reason = reason

    @property
    def parallel_requests(self) -> int:
        return 1

    def embed(self, features: FloatArray) -> FloatArray:
        """It cannot.

        Raises:
            UserError: always, with the reason.
        """
        raise UserError(self._reason)


class TensorRtRtxBuilder(TensorRtBuilder):
    """Builds with the TensorRT for RTX of ``settings.python``, ahead of time for GPUs that need not be here.

    Raises:
        UserError: there is no TensorRT for RTX, or it does not build for a compute capability.
    """

    name = "tensorrt_rtx"
    product = "TensorRT for RTX"
    package = "tensorrt_rtx"
    bound_to = (_VERSION, _CAPABILITY)

    def __init__(self, settings: TensorRtRtxSettings, cache: Cache) -> None:
        super().__init__(settings, cache)
        self._targets = self._chosen(settings.compute_capability)

    @property
    def environment(self) -> Mapping[str, str]:
        built_with = {_VERSION: self._described["version"], _CAPABILITY: ", ".join(self._targets)}
        return {**built_with, _GPU: self._gpu[_GPU]} if self.executes else built_with

    @property
    def executes(self) -> bool:
        return self._gpu.get(_CAPABILITY) in self._targets

    @property
    def _gpu(self) -> Mapping[str, str]:
        """Name and compute capability of the GPU of this machine; empty if there is none."""
        gpu: Mapping[str, str] = self._described["gpu"]
        return gpu

    @property
    def _target(self) -> Mapping[str, Any]:
        return {"compute_capabilities": self._targets}

    @property
    def _absence(self) -> str:
        """Why engines do not run on this machine."""
        here = f"the one here has {self._gpu[_CAPABILITY]}" if self._gpu else "there is none here"
        return f"an engine for GPUs of compute capability {', '.join(self._targets)}; {here}"

    def runs(self, precision: Precision, geometry: LayerGeometry) -> bool:
        weights = precision.weights
        is_packed = weights is not None and weights.bits == _PACKED_BITS and weights.group_size is not None
        return (is_packed and precision.input_bits is None) or super().runs(precision, geometry)

    def stored_bits(self, precision: Precision, geometry: LayerGeometry) -> int:
        """Weights of small layers are stored in FP32, and so are those that become no product."""
        if precision.bits_per_weight == _PACKED_BITS and not stays_packed(geometry):
            return FP32.bits_per_weight
        return super().stored_bits(precision, geometry)

    def _chosen(self, given: Any) -> Sequence[str]:
        known: Sequence[str] = self._described["compute_capabilities"]
        here = self._gpu.get(_CAPABILITY, "")
        if given is None:
            return [here if here in known else PAPERS_GPU]
        asked = [str(each) for each in (given if isinstance(given, list | tuple) else [given])]
        if _CURRENT in asked and not here:
            raise UserError(
                f"engine.compute_capability={_CURRENT}: there is no GPU here; name the target's, such as "
                f"{PAPERS_GPU}"
            )
        targets = [here if each == _CURRENT else each for each in asked]
        for target in targets:
            if target not in known:
                raise UserError(
                    f"engine.compute_capability={target}: {self.product} {self._described['version']} builds "
                    f"for {', '.join(known)} only"
                )
        if not targets:
            raise UserError(f"engine.compute_capability=[]: name one or more of {', '.join(known)}")
        return sorted(set(targets), key=targets.index)

    def _adapt(self, network: onnx.ModelProto) -> None:
        adapt(network)
        convolve_groups_apart(network)
        quantize_in_equal_steps(network)

    def _made_ready(self, plan: bytes, worker: WorkerProcess) -> Engine:
        if self.executes:
            return super()._made_ready(plan, worker)
        worker.close()
        return BuiltEngine(plan, self._absence)

    def _is_at_home(self, name: str, made: str) -> bool:
        if name == _CAPABILITY:
            return not self._gpu or self._gpu[_CAPABILITY] in made.split(", ")
        return super()._is_at_home(name, made)

    def _deserialize(self, serialized: bytes) -> Engine:
        if not self._gpu:
            raise UserError("there is no GPU here to run it")
        return super()._deserialize(serialized)
