"""Checkpoints: a network, its architecture and its front end in one safetensors file."""

import json
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from speakerquant.audio.features import FrontEnd
from speakerquant.cache import atomic_path, file_digest
from speakerquant.errors import UserError
from speakerquant.model.ecapa_tdnn import EcapaTdnn, EcapaTdnnConfig


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


def shipped_checkpoint() -> Path:
    """The trained checkpoint that comes with the package (see MODEL_CARD.md beside it)."""
    return Path(str(files("speakerquant.model") / "shipped" / "ecapa_tdnn.safetensors"))


def load_checkpoint(path: Path, architecture: EcapaTdnnConfig | None = None) -> SpeakerModel:
    """Load what :func:`save_checkpoint` wrote.

    Args:
        path: The safetensors file.
        architecture: If given, the checkpoint must have this shape.

    Raises:
        UserError: the file is missing, is no safetensors file (pickles are never opened), is not a
            checkpoint of this project, or is of another architecture.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; check model.checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: not a safetensors checkpoint ({error}); pickles are never opened, convert it first"
        ) from None
    try:
        stored = EcapaTdnnConfig(**json.loads(metadata["architecture"]))
        front_end = FrontEnd(**json.loads(metadata["front_end"]))
        if stored.n_mels != front_end.n_mels:
            raise UserError(f"network of {stored.n_mels} mel bands, front end of {front_end.n_mels}")
    except UserError as error:
        raise UserError(f"{path}: {error}; the checkpoint is damaged") from None
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path}: no architecture in this file's metadata; use a checkpoint of speakerquant-train"
        ) from None
    if architecture is not None and architecture != stored:
        raise UserError(f"{path}: {_difference(stored, architecture)}; use another checkpoint or model")
    network = EcapaTdnn(stored)
    try:
        keys = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(
            f"{path}: weights do not fit the architecture ({reason}); the checkpoint is damaged"
        ) from None
    missing = [key for key in keys.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or keys.unexpected_keys:
        problem = f"lacks {missing[0]}" if missing else f"has the unknown {keys.unexpected_keys[0]}"
        raise UserError(f"{path}: the checkpoint {problem}; use a checkpoint of speakerquant-train")
    return SpeakerModel(network.eval(), front_end, file_digest(path))


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
