"""The TensorRT worker: started by its folder's path, with whichever interpreter has the package to use.

Its argument names that package: ``tensorrt``, or ``tensorrt_rtx`` for TensorRT for RTX.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import Mapping

from protocol import Operation, WorkerError, serve
from rtx_parts import PACKAGE as RTX
from rtx_parts import refuse_mixed_parts


def _operations() -> Mapping[str, Operation]:
    package = sys.argv[1]
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = str(int(package == RTX))
    _find_cuda_runtime()
    for needed in ("numpy", package, "polygraphy"):
        _import(needed, package)
    if package == RTX:
        named = (part for part in distributions() if part.metadata["Name"])  # a damaged one has no name
        refuse_mixed_parts({part.metadata["Name"]: part.version for part in named})
    backend = import_module("rtx_backend" if package == RTX else "backend")
    made: Mapping[str, Operation] = backend.operations()
    return made


def _import(needed: str, package: str) -> None:
    try:
        import_module(needed)
    except ImportError as error:
        reason = "is not installed" if error.name == needed else f"cannot be imported ({error})"
        raise WorkerError(
            f"the package {needed} {reason}; install {package.replace('_', '-')}, polygraphy and numpy "
            "there, or name another interpreter with engine.python or SPEAKERQUANT_TENSORRT_PYTHON"
            + ("" if package == RTX else "; engine=tensorrt_rtx builds without a GPU")
        ) from None


def _find_cuda_runtime() -> None:
    """Polygraphy looks for CUDA's runtime where the packages of CUDA 12 put it, but not those of CUDA 13."""
    libraries = (library for root in sys.path for library in Path(root).glob("nvidia/*/lib/libcudart.so.*"))
    folders = [os.environ.get("LD_LIBRARY_PATH", ""), *(str(library.parent) for library in libraries)]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(folder for folder in folders if folder)


serve(_operations)
