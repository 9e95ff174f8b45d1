"""The settings of a network that comes as an ONNX file: which file it is."""

from dataclasses import dataclass


@dataclass
class OnnxFileConfig:
    """The file, and what it must be.

    Attributes:
        file: Path of the ONNX file.
        digest: Digest of its bytes and those of weights that it stores in other files; any, if it is empty.
        n_mels: Number of bands, if the file does not say it.
    """

    file: str
    digest: str = ""
    n_mels: int = 80
