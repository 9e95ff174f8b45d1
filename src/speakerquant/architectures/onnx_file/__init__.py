"""Any feed-forward network that comes as an ONNX file, described for the registry of architectures."""

from typing import TYPE_CHECKING

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.onnx_file.config import OnnxFileConfig

if TYPE_CHECKING:
    from speakerquant.architectures.speaker_network import SpeakerNetwork


def _build(config: OnnxFileConfig) -> "SpeakerNetwork":
    from speakerquant.architectures.onnx_file.network import OnnxFileNetwork

    return OnnxFileNetwork(config)


ONNX_FILE = Architecture(name="onnx", config=OnnxFileConfig, build=_build)
