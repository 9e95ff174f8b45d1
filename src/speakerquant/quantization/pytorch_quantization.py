"""NVIDIA pytorch-quantization, imported so that the root logger stays as it was.

On import the library puts absl's handler on it, takes others off, and lets no message below a warning pass;
then it reports every step that it takes.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from absl import logging as absl_logging


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


with _root_logger_kept(), warnings.catch_warnings():
    # It uses what PyTorch has deprecated, which is not for its users to change.
    warnings.simplefilter("ignore")
    from pytorch_quantization.calib import HistogramCalibrator, MaxCalibrator
    from pytorch_quantization.nn import TensorQuantizer
    from pytorch_quantization.tensor_quant import QuantDescriptor

absl_logging.set_verbosity(absl_logging.ERROR)

__all__ = ["HistogramCalibrator", "MaxCalibrator", "QuantDescriptor", "TensorQuantizer"]
