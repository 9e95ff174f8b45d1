"""Digests, and files that appear whole or not at all."""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from speakerquant.errors import ServiceError, UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
# As NumPy and safetensors say it.
_FULL_IN_WORDS = re.compile(rf"requested and \d+ written|\(os error ({errno.ENOSPC}|{errno.EDQUOT})\)")


def digest(*parts: Any) -> str:
    """Hexadecimal digest of JSON-representable values; equal values give equal digests on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def sha256(contents: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(contents).hexdigest()


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """Hexadecimal digest of a file's bytes."""
    return sha256_of(path)[:32]


CHANGED = "changed while it was read; run the same command again"
"""Of a file whose digest would be another than that of what was read."""


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write a file or folder to; renamed to ``target`` when the block succeeds.

    A failure or a kill leaves ``target`` as it was.

    Raises:
        ServiceError: the disk is full.
        UserError: the folder cannot be written.
    """
    try:
        with disk_for(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            workplace = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror}; make {target.parent} writable or choose another folder"
        ) from None
    try:
        part = workplace / target.name
        with disk_for(target):
            yield part
            part.replace(target)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


@contextmanager
def disk_for(target: Path) -> Iterator[None]:
    """Name the file when the disk is full, which the system does not always do.

    Raises:
        ServiceError: it is full, so that what was to be written is worth another try.
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number not in _FULL and not (number is None and _FULL_IN_WORDS.search(str(error))):
            raise
        reason = os.strerror(number or errno.ENOSPC)
        raise ServiceError(
            f"cannot write {target}: {reason}; free some space or choose another folder"
        ) from None


def write_from_memory(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file with a library that, writing to the disk itself, would not tell that it is full.

    Args:
        path: The file.
        write: Writes its content.

    Raises:
        OSError: the file cannot be written.
    """
    content = io.BytesIO()
    write(content)
    path.write_bytes(content.getbuffer())
