"""Reads and writes checkpoints.

Our own hold weights, architecture and front end in one safetensors file. Those of public families are read
as they are distributed.
"""

import json
import logging
import re
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.checkpoint_families import unwrapped, without_first_part
from speakerquant.architectures.family import AUTO, FRONT_ENDS, Family
from speakerquant.architectures.onnx_file import ONNX_FILE
from speakerquant.architectures.onnx_file.config import OnnxFileConfig
from speakerquant.architectures.registry import architecture_of, architecture_of_network, architectures
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.audio.feature_extractor import FeatureExtractor
from speakerquant.audio.front_end import FrontEnd
from speakerquant.errors import UserError, first_line
from speakerquant.files import CHANGED, atomic_path, file_digest

_STATE_DICTS = ("model", "state_dict", "model_state_dict", "net", "network", "embedding_model")
_UNNAMED = "ecapa_tdnn"  # the network of checkpoints whose metadata name none
_WEIGHT_FILES = {".safetensors", ".onnx", ".pt", ".pth", ".ckpt", ".bin", ".model"}
_MOST_EMPTY = 0.25  # of the mel bands: 128 of SpeechBrain's at 8 kHz have a tenth, 768 at 16 kHz a half
_TEXT = re.compile(rb"[^\x00-\x08\x0e-\x1f\x7f]+")  # without control characters

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeakerModel:
    """A network ready to embed, with the front end that it was trained on.

    Attributes:
        network: The FP32 network, in evaluation mode.
        front_end: Settings of the features that the network takes.
        digest: Digest that changes whenever any weight does.
    """

    network: SpeakerNetwork
    front_end: FrontEnd
    digest: str


def is_onnx_file(path: Path) -> bool:
    """Return whether a checkpoint is an ONNX file, by how its name ends."""
    return path.suffix.lower() == ".onnx"


def load_checkpoint(
    path: Path | str,
    config: Any = None,
    family: str = AUTO,
    front_end: FrontEnd | None = None,
) -> SpeakerModel:
    """Load what :func:`save_checkpoint` wrote, a public family's checkpoint as distributed, or an ONNX file.

    Args:
        path: A safetensors file, a PyTorch one, of which nothing but tensors is read, or a ``.onnx`` file.
        config: Settings that the checkpoint's network must be shaped by, if they are given.
        family: Name of the checkpoint's family; ``auto`` tells it by the names of the layers.
        front_end: Front end that replaces that which the network was trained with.

    Raises:
        UserError: the file is missing, damaged, holds more than tensors, is of another shape or family, or is
            changed meanwhile.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if file.suffix in _WEIGHT_FILES)
        raise UserError(
            f"{path}: a folder; give the file of weights in it" + (f", such as {files[0]}" if files else "")
        )
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; check model.checkpoint")
    try:
        content_digest = file_digest(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    try:
        if is_onnx_file(path):
            network, front_end = _of_onnx_file(path, family, front_end)
        elif "architecture" in (content := _read(path))[1]:
            if family != AUTO:
                raise UserError(
                    f"written by speakerquant-train, not of family {family}; leave model.family at auto"
                )
            weights, metadata = content
            architecture, stored, trained_with = _described(metadata)
            front_end = front_end or trained_with
            network = _network(
                architecture,
                stored,
                weights,
                advice="it is damaged, or of a version that named layers otherwise",
            )
        else:
            network, front_end = _foreign(content[0], family, front_end)
        if network.n_mels != front_end.n_mels:
            raise UserError(f"network of {network.n_mels} mel bands, front end of {front_end.n_mels}")
        if file_digest(path) != content_digest:
            raise UserError(CHANGED)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if config is not None and config != network.config:
        raise UserError(f"{path}: {_difference(network.config, config)}; use another checkpoint or model")
    digest = network.config.digest if is_onnx_file(path) else content_digest
    return SpeakerModel(network, front_end, digest)


def _plausible(front_end: FrontEnd) -> FrontEnd:
    """Return the front end, unless the network's inputs are so many that they can hardly be mel bands."""
    num_empty = FeatureExtractor(front_end).num_empty_bands
    if num_empty > _MOST_EMPTY * front_end.n_mels:
        raise UserError(
            f"{front_end.n_mels} mel bands, of which {num_empty} hold no frequency of the Fourier transform; "
            "the network was trained on other features, which are not supported"
        )
    if num_empty:
        log.warning(
            "%d of %d mel bands hold no frequency of the Fourier transform and never move; if the network "
            "was trained on other features, such as fewer bands and their deltas, embeddings mean nothing",
            *(num_empty, front_end.n_mels),
        )
    return front_end


def _of_onnx_file(path: Path, family: str, front_end: FrontEnd | None) -> tuple[SpeakerNetwork, FrontEnd]:
    """Return the file's network, and the given front end or else the one that its metadata says."""
    # only this needs the onnx package
    from speakerquant.architectures.onnx_file.front_end_metadata import CHOICE, front_end_of

    if family != AUTO:
        raise UserError(
            f"an ONNX file, not a checkpoint of family {family}; give model=onnx, and if the file has no "
            f"metadata of sherpa-onnx, {CHOICE}"
        )
    known = OnnxFileConfig(str(path.absolute()))  # not resolved: its data lies beside a link
    network = ONNX_FILE.build(replace(known, n_mels=front_end.n_mels) if front_end else known)
    return network, _plausible(front_end or front_end_of(network.interface.metadata, network.n_mels))


def _described(metadata: Mapping[str, str]) -> tuple[Architecture, Any, FrontEnd]:
    architecture = architecture_of(metadata.get("network", _UNNAMED))
    try:
        config = architecture.config(**json.loads(metadata["architecture"]))
        return architecture, config, FrontEnd(**json.loads(metadata["front_end"]))
    except (UserError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"architecture or front end cannot be read from its metadata ({first_line(error)}); "
            "the checkpoint is damaged"
        ) from None


def _foreign(
    weights: Mapping[str, Tensor], family: str, front_end: FrontEnd | None
) -> tuple[SpeakerNetwork, FrontEnd]:
    """Return a public checkpoint's network, and the given front end or else the one it was trained with."""
    weights = _bare(weights)
    architecture, known = _recognized(weights, family)
    assert architecture.families is not None
    advice = _advice(weights, (architecture, known))
    try:
        foreign = architecture.families().convert(weights, known)
    except UserError as error:
        raise UserError(f"{error}; {advice}") from None
    network = _network(architecture, foreign.config, foreign.weights, advice)
    return network, _plausible(front_end or replace(FRONT_ENDS[known], n_mels=network.n_mels))


def _bare(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the weights by the names of a known format, if these are what is behind a prefix of all."""
    plain = unwrapped(weights)
    inner: Mapping[str, Tensor] | None = plain
    while inner is not None and not _named_alike(inner):
        inner = without_first_part(inner)
    return plain if inner is None else inner


def _recognized(weights: Mapping[str, Tensor], family: str) -> tuple[Architecture, Family]:
    """Return what the names belong to: a kind of network, and the given family or the one that they tell."""
    if family != AUTO:
        owned = [(architecture, known) for architecture, known in _formats() if known == family]
        if not owned:
            names = dict.fromkeys(known for _, known in _formats())
            raise UserError(f"model.family={family}: unknown family; valid are auto, {', '.join(names)}")
        return _nearest(weights, owned)
    found = _named_alike(weights)
    if not found:
        raise UserError(f"no network of a known family; {_advice(weights)}")
    if len(found) > 1:
        alike = [known for _, known in found]
        raise UserError(
            f"{' and '.join(alike)} name their layers alike, but their features differ; "
            f"choose {' or '.join(f'model={name}' for name in alike)}"
        )
    return found[0]


def _formats() -> list[tuple[Architecture, Family]]:
    """Every kind of network with every family that knows it."""
    return [
        (architecture, family)
        for architecture in architectures()
        if architecture.families
        for family in architecture.families().names
    ]


def _nearest(
    weights: Mapping[str, Tensor], formats: Sequence[tuple[Architecture, Family]]
) -> tuple[Architecture, Family]:
    """Return the format that knows most of the names; of equals, the first."""

    def num_known(known: tuple[Architecture, Family]) -> int:
        architecture, family = known
        assert architecture.families is not None
        return architecture.families().num_known(weights, family)

    return max(formats, key=num_known)


def _named_alike(weights: Mapping[str, Tensor]) -> list[tuple[Architecture, Family]]:
    """Return the formats that have such names."""
    return [
        (architecture, family)
        for architecture in architectures()
        if architecture.families
        for family in architecture.families().recognize(weights)
    ]


def _advice(weights: Mapping[str, Tensor], tried: tuple[Architecture, Family] | None = None) -> str:
    """Say in words which formats have such names; if none has, or the one that was tried, what else to do."""
    alike = _named_alike(weights)
    if alike and tried not in alike:
        formats = (f"{family}'s {architecture.name}" for architecture, family in alike)
        return f"its names are those of {' or '.join(formats)}"
    *others, last = (each.families().network for each in architectures() if each.families)
    return (
        f"if it is another network than {', '.join(others)} or {last}, export it as ONNX and give model=onnx "
        "(docs/networks.md)"
    )


class _LeftOut:
    """In place of what a file holds beside its tensors, such as the objects of a training's settings."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors by name, and the metadata if there is any."""
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            return weights, file.metadata() or {}
    except (SafetensorError, OSError):
        pass  # then PyTorch's own format
    try:
        # Files of before PyTorch 1.6 are no archives, which alone can be asked.
        is_archive = zipfile.is_zipfile(path)
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path) if is_archive else []
        with torch.serialization.safe_globals([(_LeftOut, name) for name in foreign]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever a damaged file, or one with more in it than tensors, may raise
        if what := _what_it_is_instead(path):
            raise UserError(what) from None
        raise UserError(
            "no checkpoint, damaged, or with more in it than tensors, which is never loaded; "
            "give the state dict of a network"
        ) from None
    for wrapper in _STATE_DICTS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    named = content.items() if isinstance(content, Mapping) else ()
    weights = {str(name): value for name, value in named if isinstance(value, Tensor)}
    if not weights:
        inner = ", ".join(str(name) for name, value in named if isinstance(value, Mapping))
        if inner:
            raise UserError(
                f"holds no weights by name, but {inner}; save the one that is the state dict of a network in "
                "a file of its own, and give that"
            )
        raise UserError("holds no weights by name; give the state dict of a network")
    return weights, {}


def _what_it_is_instead(path: Path) -> str | None:
    """What is often given in place of weights, if it is one of those."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of git-lfs, not the weights; fetch them with: git lfs pull"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, not weights; download the file itself, not the page that shows it"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any("/code/" in name for name in names):
            return "a TorchScript program, not weights; give the state dict of the network"
        is_archive = not any(name.endswith("data.pkl") for name in names)  # which PyTorch's own have
    else:
        is_archive = tarfile.is_tarfile(path)
    if is_archive:
        return "an archive, not weights; unpack it and give the file of weights in it"
    if _TEXT.fullmatch(start):
        return "a text file, not weights; give the file of weights that it belongs to"
    return None


def _network(
    architecture: Architecture, config: Any, weights: Mapping[str, Tensor], advice: str
) -> SpeakerNetwork:
    try:
        network = architecture.build(config)
        keys = network.load_state_dict(weights, strict=False)
    except (RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"weights do not fit the architecture ({reason}); {advice}") from None
    missing = [key for key in keys.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or keys.unexpected_keys:
        problem = f"lacks {missing[0]}" if missing else f"has the unknown {keys.unexpected_keys[0]}"
        raise UserError(f"the checkpoint {problem}; {advice}")
    return network.eval()


def random_model(architecture: Architecture, config: Any, front_end: FrontEnd, seed: int) -> SpeakerModel:
    """Make an untrained network, whose weights the seed determines.

    Raises:
        UserError: network and front end have different numbers of mel bands.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = architecture.build(config).eval()
    if network.n_mels != front_end.n_mels:
        raise UserError(f"model: {network.n_mels} mel bands in architecture, {front_end.n_mels} in front_end")
    return SpeakerModel(network, front_end, f"random-{seed}-{architecture.name}-{asdict(network.config)}")


def save_checkpoint(path: Path, network: SpeakerNetwork, front_end: FrontEnd) -> None:
    """Write the network's weights in FP16, its statistics in FP32, its architecture and its front end."""
    metadata = {
        "network": architecture_of_network(network).name,
        "architecture": json.dumps(asdict(network.config)),
        "front_end": json.dumps(asdict(front_end)),
    }
    weights = {name: parameter.detach().half() for name, parameter in network.named_parameters()}
    # variances may lie beyond the range of FP16; the counters of batches (integers) are not needed
    weights |= {name: buffer for name, buffer in network.named_buffers() if buffer.is_floating_point()}
    content = save({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, metadata)
    with atomic_path(path) as part:
        part.write_bytes(content)


def _difference(stored: Any, wanted: Any) -> str:
    if type(stored) is not type(wanted):
        return f"checkpoint is of a {type(stored).__name__}, the model config of a {type(wanted).__name__}"
    theirs, ours = asdict(stored), asdict(wanted)
    name = next(name for name in ours if ours[name] != theirs[name])
    return f"checkpoint has {name} {theirs[name]}, the model config {ours[name]}"
