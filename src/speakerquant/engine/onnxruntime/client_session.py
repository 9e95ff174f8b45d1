"""Files as programs other than this one run them: ONNX Runtime with its own settings."""

from pathlib import Path

import onnxruntime as ort

from speakerquant.engine.base import FloatArray
from speakerquant.errors import UserError, first_line


class ClientSession:
    """A file of one input and one output on the CPU.

    Raises:
        UserError: ONNX Runtime does not take it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base of their own
            raise UserError(
                f"ONNX Runtime {ort.__version__} does not take {path.name} ({first_line(error)})"
            ) from None
        [self._input], [self._output] = self._session.get_inputs(), self._session.get_outputs()

    def embed(self, features: FloatArray) -> FloatArray:
        """Features, in the layout of the file, to embeddings ``[B, dim]``."""
        embeddings: FloatArray = self._session.run([self._output.name], {self._input.name: features})[0]
        return embeddings
