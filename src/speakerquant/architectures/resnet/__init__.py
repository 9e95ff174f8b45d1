"""ResNet, described for the registry of architectures."""

from speakerquant.architectures.resnet.families import RESNET_FAMILIES
from speakerquant.architectures.resnet.network import ResNet, ResNetConfig
from speakerquant.architectures.speaker_network import Architecture

RESNET = Architecture(name="resnet", config=ResNetConfig, build=ResNet, families=RESNET_FAMILIES)
