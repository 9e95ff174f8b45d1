"""The network of a mask as a run leaves it: its ONNX graph, and what that tells of itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from speakerquant.architectures.interface import Interface
from speakerquant.audio.front_end import FrontEnd
from speakerquant.engine.provenance import FRONT_END, INTERFACE, MIN_FRAMES
from speakerquant.errors import UserError


@dataclass(frozen=True)
class MaskGraph:
    """A graph that :func:`speakerquant.graph.masking.write_mask` has written for a run.

    Attributes:
        model: The graph.
        properties: What made it, by key.
        front_end: The features that it was measured with.
        original: How the file that its network came as was asked.
        min_frames: Fewest frames that it takes.
    """

    model: onnx.ModelProto
    properties: Mapping[str, str]
    front_end: FrontEnd
    original: Interface
    min_frames: int

    @classmethod
    def read(cls, path: Path) -> "MaskGraph":
        """Read a graph from its file.

        Raises:
            UserError: it is none, or none that tells of its network.
        """
        try:
            model = onnx.load(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        except DecodeError:
            raise UserError(f"{path}: no ONNX file, or damaged") from None
        properties = {entry.key: entry.value for entry in model.metadata_props}
        try:
            front_end = FrontEnd(**json.loads(properties[FRONT_END]))
            original = Interface(**json.loads(properties.pop(INTERFACE)))
            min_frames = int(properties[MIN_FRAMES])
        except (KeyError, ValueError, TypeError):
            raise UserError(
                f"{path}: not the graph of a run, or that of an earlier version of this program; "
                "evaluate the mask again"
            ) from None
        return cls(model, properties, front_end, original, min_frames)
