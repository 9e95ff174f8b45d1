"""The architectures that the project knows, by name."""

from typing import TYPE_CHECKING

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.campplus import CAMPPLUS
from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.architectures.onnx_file import ONNX_FILE
from speakerquant.architectures.resnet import RESNET
from speakerquant.errors import UserError

if TYPE_CHECKING:
    from speakerquant.architectures.speaker_network import SpeakerNetwork

_BY_NAME: dict[str, Architecture] = {}


def register(architecture: Architecture) -> Architecture:
    """Make an architecture known by its name.

    Raises:
        ValueError: another architecture has the name.
    """
    if _BY_NAME.setdefault(architecture.name, architecture) != architecture:
        raise ValueError(f"the architecture {architecture.name} is registered already")
    return architecture


def architectures() -> tuple[Architecture, ...]:
    """Return every known architecture, in the order of registration."""
    return tuple(_BY_NAME.values())


def architecture_of(name: str) -> Architecture:
    """Return the architecture of that name.

    Raises:
        UserError: there is none; the message lists the names of those there are.
    """
    if name not in _BY_NAME:
        raise UserError(f"unknown network {name!r}; valid are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def architecture_of_network(network: "SpeakerNetwork") -> Architecture:
    """Return the registered architecture that a network is of."""
    [architecture] = [known for known in architectures() if isinstance(network.config, known.config)]
    return architecture


register(ECAPA_TDNN)
register(CAMPPLUS)
register(RESNET)
register(ONNX_FILE)
