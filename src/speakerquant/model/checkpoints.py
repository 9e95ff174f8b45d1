"""Checkpoints: our own (network, architecture and front end in one safetensors file), and those of others."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from speakerquant.audio.front_end import FrontEnd
from speakerquant.cache import atomic_path, file_digest
from speakerquant.errors import UserError
from speakerquant.model.ecapa_tdnn import EcapaTdnn, EcapaTdnnConfig
from speakerquant.model.families import FRONT_ENDS, Family, convert, family_of, nearest_format

_STATE_DICTS = ("model", "state_dict")
# What PyTorch raises for damaged files, and for those with more in them than tensors.
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OSError,
)


@dataclass(frozen=True)
class SpeakerModel:
    """A network ready to embed, with the front end that it was trained on.

    Attributes:
        network: In evaluation mode, FP32.
        front_end: What turns recordings into its features.
        digest: Changes whenever any weight does.
    """

    network: EcapaTdnn
    front_end: FrontEnd
    digest: str


def load_checkpoint(
    path: Path,
    architecture: EcapaTdnnConfig | None = None,
    family: Family = Family.auto,
    front_end: FrontEnd | None = None,
) -> SpeakerModel:
    """Load what :func:`save_checkpoint` wrote, or a checkpoint of a public family as it is distributed.

    Args:
        path: A safetensors file or a PyTorch one, of which nothing but tensors is read.
        architecture: If given, the checkpoint must have this shape.
        family: Who trained it; ``auto`` tells by the names of its layers.
        front_end: Instead of the family's own; what :func:`save_checkpoint` wrote brings its own.

    Raises:
        UserError: the file is missing, damaged, holds more than tensors, or is of another shape or family.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; check model.checkpoint")
    weights, metadata = _read(path)
    try:
        if "architecture" in metadata:
            if family is not Family.auto:
                raise UserError(
                    f"written by speakerquant-train, not of family {family}; choose model=shipped"
                )
            stored, front_end = _described(metadata)
            network = _network(stored, weights, advice="it is damaged")
        else:
            family = family_of(weights) if family is Family.auto else family
            stored, converted = convert(weights, family)
            front_end = front_end or replace(FRONT_ENDS[family], n_mels=stored.n_mels)
            network = _network(stored, converted, advice=nearest_format(weights, family))
        if stored.n_mels != front_end.n_mels:
            raise UserError(f"network of {stored.n_mels} mel bands, front end of {front_end.n_mels}")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if architecture is not None and architecture != stored:
        raise UserError(f"{path}: {_difference(stored, architecture)}; use another checkpoint or model")
    return SpeakerModel(network, front_end, file_digest(path))


def _described(metadata: Mapping[str, str]) -> tuple[EcapaTdnnConfig, FrontEnd]:
    try:
        return EcapaTdnnConfig(**json.loads(metadata["architecture"])), FrontEnd(
            **json.loads(metadata["front_end"])
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise UserError("no architecture in this file's metadata; the checkpoint is damaged") from None


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and the metadata if there is any."""
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            return weights, file.metadata() or {}
    except (SafetensorError, OSError):
        pass  # then PyTorch's own format
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE:
        raise UserError(
            f"{path}: no checkpoint, damaged, or with more in it than tensors, which is never loaded; "
            "give the state dict of a network"
        ) from None
    for wrapper in _STATE_DICTS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    named = content.items() if isinstance(content, Mapping) else ()
    weights = {str(name): value for name, value in named if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"{path}: holds no weights by name; give the state dict of a network")
    return weights, {}


def _network(architecture: EcapaTdnnConfig, weights: Mapping[str, Tensor], advice: str) -> EcapaTdnn:
    try:
        network = EcapaTdnn(architecture)
        keys = network.load_state_dict(weights, strict=False)
    except (RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"weights do not fit the architecture ({reason}); {advice}") from None
    missing = [key for key in keys.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or keys.unexpected_keys:
        problem = f"lacks {missing[0]}" if missing else f"has the unknown {keys.unexpected_keys[0]}"
        raise UserError(f"the checkpoint {problem}; {advice}")
    return network.eval()


def random_model(architecture: EcapaTdnnConfig, front_end: FrontEnd, seed: int) -> SpeakerModel:
    """An untrained network, for measuring size and speed; the seed determines the weights.

    Raises:
        UserError: network and front end have different numbers of mel bands.
    """
    if architecture.n_mels != front_end.n_mels:
        raise UserError(
            f"model: {architecture.n_mels} mel bands in architecture, {front_end.n_mels} in front_end"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = EcapaTdnn(architecture).eval()
    return SpeakerModel(network, front_end, f"random-{seed}-{asdict(architecture)}")


def save_checkpoint(path: Path, network: EcapaTdnn, front_end: FrontEnd) -> None:
    """Write the network's weights in FP16, its architecture and its front end."""
    metadata = {
        "architecture": json.dumps(asdict(network.config)),
        "front_end": json.dumps(asdict(front_end)),
    }
    weights = {
        name: tensor.detach().cpu().half().contiguous()
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }
    with atomic_path(path) as part:
        part.write_bytes(save(weights, metadata))


def _difference(stored: EcapaTdnnConfig, wanted: EcapaTdnnConfig) -> str:
    theirs, ours = asdict(stored), asdict(wanted)
    name = next(name for name in ours if ours[name] != theirs[name])
    return f"checkpoint has {name} {theirs[name]}, the model config {ours[name]}"
