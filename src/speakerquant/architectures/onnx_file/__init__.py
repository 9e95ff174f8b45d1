"""Any feed-forward network that comes as an ONNX file, described for the registry of architectures."""

from speakerquant.architectures.onnx_file.config import OnnxFileConfig
from speakerquant.architectures.speaker_network import Architecture, SpeakerNetwork


def _build(config: OnnxFileConfig) -> SpeakerNetwork:
    from speakerquant.architectures.onnx_file.network import (
        OnnxFileNetwork,  # only these need the onnx package
    )

    return OnnxFileNetwork(config)


ONNX_FILE = Architecture(name="onnx", config=OnnxFileConfig, build=_build)
