"""What made an engine: written beside it, compared where it is loaded."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from speakerquant.errors import UserError, first_line
from speakerquant.files import atomic_path, sha256


@dataclass(frozen=True)
class Provenance:
    """What made an engine.

    Attributes:
        engine: Name of the backend.
        environment: Versions and devices that it was built with, by name.
        settings: The backend's settings that change what the engine computes, by name; also those that
            followed from the lengths of recordings.
        network: What the ONNX file says of its network, by name
            (:func:`speakerquant.graph.masking.write_mask`).
        size_bytes: Size of the serialized engine.
        sha256: Of the serialized engine.
    """

    engine: str
    environment: Mapping[str, str]
    settings: Mapping[str, str]
    network: Mapping[str, str]
    size_bytes: int
    sha256: str

    def save(self, path: Path) -> None:
        """Write it beside the engine ``path``.

        Raises:
            UserError: the folder cannot be written.
        """
        with atomic_path(provenance_path(path)) as part:
            part.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


FRONT_END, MIN_FRAMES = "front_end", "min_frames"
"""What an engine must tell of its network to be given recordings."""

MAX_FRAMES = "max_frames"
"""The setting of an engine that takes no longer recordings: how many frames. Others take any length."""

CHANNEL = "channel"
"""Which channel of recordings it was measured on, if not on their average."""

INTERFACE = "interface"
"""How the file that its network came as is asked: the fields of an ``Interface``, in JSON."""

MASK, ROUNDING, WEIGHT_BITS = "mask", "rounding", "weight_bits"
"""What it tells of its arithmetic: the key of its mask, how weights became integers, and their most bits."""

_STEM, _PROVENANCE_SUFFIX = "engine", ".json"


def engine_path(folder: Path, backend: str) -> Path:
    """The file of a backend's engine in the folder of a run."""
    return folder / f"{_STEM}.{backend}"


def provenance_path(engine: Path) -> Path:
    """The file beside an engine that says what made it."""
    return engine.with_name(f"{engine.name}{_PROVENANCE_SUFFIX}")


def remove_engines(folder: Path, backends: Iterable[str]) -> None:
    """Remove the engines of backends from a folder, and what says what made them."""
    for path in (engine_path(folder, backend) for backend in backends):
        path.unlink(missing_ok=True)
        provenance_path(path).unlink(missing_ok=True)


def find_engine(path: Path) -> Path:
    """The engine file at a path: the file itself, or the one in a folder, such as a run's.

    Raises:
        UserError: there is none in the folder, or several.
    """
    if not path.is_dir():
        return path
    found = [each for each in path.rglob(f"{_STEM}.*") if each.suffix != _PROVENANCE_SUFFIX]
    if len(found) != 1:
        number = f"{len(found)} engines" if found else "no engine"
        raise UserError(f"{path}: {number} in this folder, instead of one; name a file of one, or its folder")
    return found[0]


def read_engine(path: Path) -> tuple[bytes, Provenance]:
    """A serialized engine and, from the file beside it, what made it.

    Raises:
        UserError: one of the files is missing or damaged, or they do not belong together.
    """
    try:
        serialized = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read engine {path}: {error.strerror}; build it first") from None
    provenance = read_provenance(path)
    if provenance.sha256 != sha256(serialized):
        raise UserError(f"{path}: not the engine that was written here, or damaged; build it again")
    return serialized, provenance


def read_provenance(engine: Path) -> Provenance:
    """What made an engine, from the file beside it.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = provenance_path(engine)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if engine.suffix == ".onnx":
            raise UserError(f"{engine}: a network, not an engine; give the folder of its run") from None
        raise UserError(f"{engine}: what made it is not known; copy {path.name} beside it too") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}); build the engine again") from None
    try:
        provenance = Provenance(**record)
        maps = (provenance.environment, provenance.settings, provenance.network)
        if not all(isinstance(value, str) for part in maps for value in part.values()):
            raise TypeError
    except (TypeError, AttributeError):
        raise UserError(f"{path}: does not say what made an engine; build it again") from None
    return provenance


def network_properties(onnx_path: Path) -> dict[str, str]:
    """What an ONNX file says of its network."""
    model: Any = onnx.load(onnx_path, load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}
