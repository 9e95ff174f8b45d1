"""The packages that TensorRT for RTX consists of."""

from __future__ import annotations

from typing import Mapping

from protocol import WorkerError

PACKAGE = "tensorrt_rtx"


def refuse_mixed_parts(versions: Mapping[str, str]) -> None:
    """Refuse packages of two versions, and for CUDA 12 beside those for 13: their files overwrite each other.

    Args:
        versions: Version by name of every package that is installed.

    Raises:
        WorkerError: there are such packages.
    """
    names = {name.lower().replace("-", "_"): version for name, version in versions.items()}
    parts = {name: version for name, version in names.items() if name.startswith(f"{PACKAGE}_cu")}
    if len({name.split("_")[2] for name in parts}) > 1 or len(set(parts.values())) > 1:
        installed = ", ".join(f"{name} {version}" for name, version in sorted(parts.items()))
        raise WorkerError(
            f"parts of two TensorRT for RTX are installed side by side ({installed}); "
            "uninstall them all and install tensorrt-rtx"
        )
