"""Settings of TensorRT that the configuration shares with its builders."""

import os
import sys
from dataclasses import dataclass
from typing import Any

from speakerquant.errors import UserError

INTERPRETER = "SPEAKERQUANT_TENSORRT_PYTHON"
"""Variable of the environment that names the interpreter where no setting does."""

_BOUNDS = {
    "opt_frames": (1, None),
    "max_frames": (1, None),
    "max_batch": (1, None),
    "workspace_mb": (1, None),
    "optimization_level": (0, 5),
}


@dataclass
class TensorRtSettings:
    """How TensorRT builds and runs engines; ``conf/engine/tensorrt.yaml`` says how to choose.

    Attributes:
        python: Interpreter that has TensorRT and Polygraphy; none means the one that
            ``SPEAKERQUANT_TENSORRT_PYTHON`` names, or else this one.
        opt_frames: Length that kernels are chosen for; none means the median of the recordings.
        max_frames: Longest recording; none means the longest at hand.
        max_batch: Largest batch that the engine can be deployed with; here it gets one recording at a time.
        workspace_mb: Most memory for a layer's scratch space, in MB; none means all there is.
        optimization_level: 0 (fastest build) to 5 (fastest engine); none means TensorRT's default.
        time_limit: Seconds after which a build or a request counts as hung.
    """

    python: str | None = None
    opt_frames: int | None = None
    max_frames: int | None = None
    max_batch: int = 1
    workspace_mb: int | None = None
    optimization_level: int | None = None
    time_limit: float = 1800.0

    @property
    def interpreter(self) -> str:
        """The interpreter that has TensorRT."""
        return self.python or os.environ.get(INTERPRETER) or sys.executable

    def __post_init__(self) -> None:
        for name, (smallest, largest) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise UserError(f"engine.{name}={value}: must be at least {smallest}")
            if value is not None and largest is not None and value > largest:
                raise UserError(f"engine.{name}={value}: must be at most {largest}")
        if not self.time_limit > 0:
            raise UserError(f"engine.time_limit={self.time_limit:g}: must be more than 0 seconds")


@dataclass
class TensorRtRtxSettings(TensorRtSettings):
    """The same for TensorRT for RTX; ``conf/engine/tensorrt_rtx.yaml`` says how to choose.

    Attributes:
        compute_capability: Kind of GPU to build for, such as ``8.6``, or several; ``current`` is that of this
            machine; none means the same where it can be built for, else that of the paper's GPU.
    """

    compute_capability: Any = None
