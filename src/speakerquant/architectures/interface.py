"""How an ONNX file of a network is asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Interface:
    """Names, layout and metadata of a file; by default those of the project's own files.

    Attributes:
        input: Name of the features.
        output: Name of the embeddings.
        time_last: Whether features are ``[batch, bands, time]``, and not ``[batch, time, bands]``.
        metadata: What the file says of itself, by key.
    """

    input: str = "features"
    output: str = "embeddings"
    time_last: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
