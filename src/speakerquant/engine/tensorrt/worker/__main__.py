"""The TensorRT worker: started by its folder's path, with whichever interpreter has TensorRT."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Mapping

from protocol import Operation, WorkerError, serve


def _operations() -> Mapping[str, Operation]:
    _find_cuda_runtime()
    _import("numpy")
    _import("tensorrt")
    _import("polygraphy")
    from backend import operations

    made: Mapping[str, Operation] = operations()
    return made


def _import(package: str) -> None:
    try:
        import_module(package)
    except ImportError as error:
        reason = "is not installed" if error.name == package else f"cannot be imported ({error})"
        raise WorkerError(
            f"the package {package} {reason}; install tensorrt, polygraphy and numpy there, "
            "or name another interpreter with engine.python"
        ) from None


def _find_cuda_runtime() -> None:
    """Polygraphy looks for CUDA's runtime where the packages of CUDA 12 put it, but not those of CUDA 13."""
    libraries = (library for root in sys.path for library in Path(root).glob("nvidia/*/lib/libcudart.so.*"))
    folders = [os.environ.get("LD_LIBRARY_PATH", ""), *(str(library.parent) for library in libraries)]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(folder for folder in folders if folder)


serve(_operations)
