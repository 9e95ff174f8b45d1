"""Builds and runs engines with TensorRT for RTX, which needs a GPU to run one and none to build it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend import Backend, trt
from gpu import NoGpuError, describe_gpu
from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
from polygraphy.backend.trt import PostprocessConfig
from protocol import Message, Operation

_PREFIX = "SM"


def operations() -> Mapping[str, Operation]:
    """What the worker does, by name."""
    try:
        gpu = describe_gpu()
    except NoGpuError:
        gpu = {}
    made: Mapping[str, Operation] = RtxBackend(gpu).operations()
    return made


class RtxBackend(Backend):
    """TensorRT for RTX for GPUs of any kind that it knows."""

    strongly_typed = True

    def describe(self, payload: bytes) -> Message:
        """Version, the GPU of this machine if there is one, and the kinds of GPU that can be built for."""
        names = [name for name in trt.ComputeCapability.__members__ if name.startswith(_PREFIX)]
        known = [f"{name[len(_PREFIX) : -1]}.{name[-1]}" for name in names]
        return {"version": trt.__version__, "gpu": dict(self._gpu), "compute_capabilities": known}, b""

    def _config(
        self,
        network: Any,
        common: Mapping[str, Any],
        *,
        int8: bool,
        fp16: bool,
        compute_capabilities: list[str],
    ) -> Any:
        targets = [tuple(int(part) for part in each.split(".")) for each in compute_capabilities]
        config = CreateConfigRTX(**common, compute_capabilities=targets)
        return PostprocessConfig(config, lambda builder, network, made: made.clear_flag(trt.BuilderFlag.TF32))
