"""Engine backends by name."""

import logging
import sys
from importlib.util import find_spec

from speakerquant.cache import Cache
from speakerquant.engine.base import EngineBuilder
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtRtxSettings, TensorRtSettings
from speakerquant.errors import UserError

log = logging.getLogger(__name__)

ENGINES = ("tensorrt", "tensorrt_rtx", "openvino", "onnxruntime")

REFERENCE = "onnxruntime"
"""The engine that computes embeddings where another one can only be built."""


def engine_builder(
    name: str, tensorrt: TensorRtSettings | None = None, cache: Cache | None = None
) -> EngineBuilder:
    """The builder of that name; a backend's package is imported when it is asked for.

    Args:
        name: One of :data:`ENGINES`, or ``auto``: TensorRT where the package and a GPU are, else OpenVINO.
        tensorrt: Settings of the TensorRT backends; of TensorRT for RTX, they have its own ones.
        cache: Where TensorRT keeps the timings of its kernels.

    Raises:
        UserError: there is none of that name, or it cannot run here.
    """
    if name == "tensorrt":
        from speakerquant.engine.tensorrt.tensorrt_engine import TensorRtBuilder

        return TensorRtBuilder(tensorrt or TensorRtSettings(), cache or Cache())
    if name == "tensorrt_rtx":
        from speakerquant.engine.tensorrt.tensorrt_rtx_engine import TensorRtRtxBuilder

        rtx = tensorrt if isinstance(tensorrt, TensorRtRtxSettings) else TensorRtRtxSettings()
        return TensorRtRtxBuilder(rtx, cache or Cache())
    if name == "openvino":
        from speakerquant.engine.openvino.openvino_engine import OpenVinoBuilder

        return OpenVinoBuilder()
    if name == "onnxruntime":
        from speakerquant.engine.onnxruntime.onnxruntime_engine import OnnxRuntimeBuilder

        return OnnxRuntimeBuilder()
    if name == "auto":
        return _automatic(tensorrt or TensorRtSettings(), cache or Cache())
    raise UserError(f"engine.name: unknown engine {name!r}; valid are auto, {', '.join(ENGINES)}")


def _automatic(settings: TensorRtSettings, cache: Cache) -> EngineBuilder:
    if settings.interpreter == sys.executable and find_spec("tensorrt") is None:
        reason = "the package tensorrt is not installed"
    else:
        try:
            builder = engine_builder("tensorrt", settings, cache)
            log.info("engine=auto: tensorrt on %s", ", ".join(builder.environment.values()))
            return builder
        except UserError as error:
            reason = str(error)
    log.info("engine=auto: openvino, since %s", reason)
    return engine_builder("openvino")
