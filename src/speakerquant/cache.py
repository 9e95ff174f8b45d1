"""Content-addressed store: what was computed once from the same inputs is never computed again."""

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from speakerquant.errors import UserError

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_NOTICEABLE = 1.0  # seconds of waiting


def digest(*parts: Any) -> str:
    """Hexadecimal digest of JSON-representable values; equal values give equal digests on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """Hexadecimal digest of a file's bytes."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()[:32]


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write a file or folder to; renamed to ``target`` when the block succeeds.

    A failure or a kill leaves ``target`` as it was.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror}; make {target.parent} writable or choose another folder"
        ) from None
    try:
        part = workplace / target.name
        with _disk_for(target):
            yield part
            part.replace(target)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


@contextmanager
def _disk_for(target: Path) -> Iterator[None]:
    """Name the file when the disk is full: the system does not."""
    try:
        yield
    except OSError as error:
        # NumPy, which could write only a part, gives no number.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, None):
            raise
        reason = error.strerror or os.strerror(errno.ENOSPC)
        raise UserError(
            f"cannot write {target}: {reason}; free some space or choose another folder"
        ) from None


class Cache:
    """A folder of entries, each named by its kind and the digest of everything it was computed from."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(platformdirs.user_cache_dir("speakerquant"))

    def get(self, kind: str, key: str, make: Callable[[Path], None], suffix: str = "") -> Path:
        """Path of the entry, made by ``make(path)`` if it is not there yet.

        Concurrent processes wait for the one that makes the entry; an entry appears whole or not at all.
        """
        target = self.root / kind / f"{key}{suffix}"
        if target.exists():
            return target
        with self._lock(kind, key):
            if not target.exists():
                _remove_leftovers(target)
                with atomic_path(target) as part:
                    make(part)
        return target

    def find(self, kind: str, key: str, suffix: str = "") -> Path | None:
        """Path of the entry, if it is there."""
        target = self.root / kind / f"{key}{suffix}"
        return target if target.exists() else None

    def continued(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """As :meth:`get`, but ``make(path)`` goes on with the file that a killed process left at ``path``."""
        target = self.root / kind / key
        if target.exists():
            return target
        with self._lock(kind, key):
            if not target.exists():
                part = target.with_name(f"{key}.unfinished")
                with self._writable():
                    part.parent.mkdir(parents=True, exist_ok=True)
                with _disk_for(target):
                    make(part)
                    part.replace(target)
        return target

    @contextmanager
    def _lock(self, kind: str, key: str) -> Iterator[None]:
        folder = self.root / "locks"
        with self._writable():
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f"{kind}-{key}")
            try:
                lock.acquire(timeout=_NOTICEABLE)
            except Timeout:
                log.info("waiting for another process, which is making the same %s", kind)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write the cache {self.root}: {error.strerror}; set cache.root to a writable folder"
            ) from None


def _remove_leftovers(target: Path) -> None:
    """What a killed maker of this entry left behind; the caller holds its lock."""
    for leftover in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(leftover)
