"""Content-addressed store: what was computed once from the same inputs is never computed again."""

import errno
import logging
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import platformdirs
from filelock import SoftFileLease, Timeout

from speakerquant.errors import UserError, first_line, lacks_memory
from speakerquant.files import disk_for
from speakerquant.leases import break_older, lease, take

log = logging.getLogger(__name__)

T = TypeVar("T")

_SIGN_OF_USE = 600.0  # seconds between two marks of an entry that a process uses
_IN_USE = 6 * _SIGN_OF_USE
_LOCKS = ".locks"  # in the folder of each kind, which is thereby known as the cache's


@dataclass(frozen=True)
class Entry:
    """An entry of a cache, or what a killed process left of one.

    Attributes:
        path: Where it is.
        num_bytes: Size of its files.
        last_use: Time of its last use, in seconds since 1970.
    """

    path: Path
    num_bytes: int
    last_use: float

    @classmethod
    def at(cls, path: Path) -> "Entry":
        """The entry at the path.

        Raises:
            FileNotFoundError: it is gone, or vanishes meanwhile.
        """
        statuses = [each.lstat() for each in (path, *path.rglob("*"))]
        files = [status for status in statuses if not stat.S_ISDIR(status.st_mode)]
        # What was not finished has never been used: the last change to it counts.
        dates = statuses[:1] if _unfinished(path) is None else statuses
        return cls(path, sum(file.st_size for file in files), max(status.st_mtime for status in dates))

    @property
    def kind(self) -> str:
        """Kind of the entry."""
        return self.path.parent.name

    @property
    def is_finished(self) -> bool:
        """Whether it is an entry; else it is what a killed process left of one."""
        return _unfinished(self.path) is None

    @property
    def is_in_use(self) -> bool:
        """Whether a process has used it within the last hour, as all do that still use it."""
        return time.time() - self.last_use < _IN_USE


class Cache:
    """A folder of entries, each named by its kind and the digest of everything it was computed from.

    Processes of several hosts and users may share it. Its locks need nothing but a file system that creates a
    file for one of several processes. All that is in it has the permissions of its folder.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        # Absolute, because what is used is marked as long as the process lives, wherever it is by then.
        self.root = Path(root or platformdirs.user_cache_dir("speakerquant")).absolute()

    def get(
        self, kind: str, key: str, make: Callable[[Path], None], suffix: str = "", *, continues: bool = False
    ) -> Path:
        """Path of the entry, made by ``make(path)`` if it is not there yet.

        Concurrent processes wait for the one that makes the entry; an entry appears whole or not at all. With
        ``continues``, ``make(path)`` goes on with the file that a killed process left at ``path``.
        """
        name = f"{key}{suffix}"
        target = self.root / kind / name
        while not _is_there(target):
            with self._locked(self.folder(kind), name) as lock:
                if _is_there(target):
                    break
                try:
                    self._make(target, make, continues)
                except Exception:
                    if lock.is_lock_held_by_us:
                        raise
                    log.info("another process took this one for dead, and makes the %s now", kind)
        return target

    def read(
        self,
        kind: str,
        key: str,
        make: Callable[[Path], None],
        read: Callable[[Path], T],
        suffix: str = "",
        *,
        continues: bool = False,
    ) -> T:
        """What ``read(path)`` reads of the entry, which is made as by :meth:`get`.

        An entry whose content is damaged, as by a power cut or another program, is made anew.
        """
        path = self.get(kind, key, make, suffix, continues=continues)
        with suppress(_DamagedError):
            return _undamaged(path, read)
        with self._locked(self.folder(kind), path.name):
            try:
                return _undamaged(path, read)  # as another process has made it meanwhile
            except _DamagedError:
                log.warning("%s is damaged, and made anew", path)
                with suppress(FileNotFoundError):  # as another process has removed it
                    _remove_at_once(path, path.name)
        return read(self.get(kind, key, make, suffix, continues=continues))

    def find(self, kind: str, key: str, read: Callable[[Path], T], suffix: str = "") -> T | None:
        """What ``read(path)`` reads of the entry, if it is there and its content not damaged."""
        path = self.root / kind / f"{key}{suffix}"
        if _is_there(path):
            with suppress(_DamagedError):
                return _undamaged(path, read)
        return None

    def folder(self, kind: str) -> Path:
        """Folder of a kind, made if it is not there.

        Raises:
            ServiceError: the disk is full.
            UserError: it cannot be written.
        """
        folder = self.root / kind
        with self._writable():
            (folder / _LOCKS).mkdir(parents=True, exist_ok=True)
            for each in (folder, folder / _LOCKS):
                self._share(each)
            if not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return folder

    def entries(self) -> Iterator[Entry]:
        """What is in the cache, in no order; what the cache has not put there is left out.

        Raises:
            UserError: the cache cannot be read.
        """
        try:
            for locks in self.root.glob(f"*/{_LOCKS}"):
                for path in locks.parent.iterdir():
                    if path != locks:
                        with suppress(FileNotFoundError):
                            yield Entry.at(path)
        except OSError as error:
            raise UserError(f"cannot read the cache {self.root}: {error.strerror}") from None

    def prune(self, max_bytes: float) -> Iterator[Entry]:
        """Remove what was not used for longest until at most so many bytes are left; yield what was removed.

        What is in use or being made stays, and with a warning what this user may not remove.

        Raises:
            UserError: the cache cannot be read.
        """
        entries = sorted(self.entries(), key=lambda entry: entry.last_use)
        excess = sum(entry.num_bytes for entry in entries) - max_bytes
        for entry in entries:
            if excess <= 0:
                break
            if self._remove(entry):
                excess -= entry.num_bytes
                yield entry

    def _remove(self, entry: Entry) -> bool:
        """Remove the entry, unless it is in use or being made."""
        name = _unfinished(entry.path) or entry.path.name
        lock = lease(entry.path.parent / _LOCKS / name)
        try:
            break_older(lock, _IN_USE)  # of a host that went down
            lock.acquire(blocking=False)
            try:
                if Entry.at(entry.path).is_in_use:
                    return False
                _remove_at_once(entry.path, name)
            finally:
                lock.release()
        except (Timeout, FileNotFoundError):
            return False
        except OSError as error:
            log.warning("cannot remove %s: %s", entry.path, error.strerror)
            return False
        return True

    def _make(self, target: Path, make: Callable[[Path], None], continues: bool) -> None:
        """Make the entry, beside its place; the caller holds its lock."""
        with self._writable():
            leftovers = [path for path in target.parent.iterdir() if _unfinished(path) == target.name]
            workplace = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            self._share(workplace)
        part = workplace / target.name
        try:
            with disk_for(target):
                if continues:
                    _copy_longest([leftover / target.name for leftover in leftovers], part)
                for leftover in leftovers:
                    shutil.rmtree(leftover, ignore_errors=True)
                make(part)
                for each in (part, *part.rglob("*")):
                    self._share(each)
                part.replace(target)
        finally:
            if not continues or target.exists():
                shutil.rmtree(workplace, ignore_errors=True)

    def _share(self, path: Path) -> None:
        """Give a path the permissions of the cache's folder, whatever the umask of its maker."""
        mode = stat.S_IMODE(self.root.stat().st_mode)
        if path.is_symlink():
            return
        if not path.is_dir():
            mode &= 0o666
        if stat.S_IMODE(path.stat().st_mode) != mode:
            with suppress(PermissionError):  # another user's, who has done so
                path.chmod(mode)

    @contextmanager
    def _locked(self, folder: Path, name: str) -> Iterator[SoftFileLease]:
        lock = lease(folder / _LOCKS / name)
        waiting = "waiting for another process, which is making the same %s"
        with self._writable():
            take(lock, lambda: log.info(waiting, folder.name))
        try:
            yield lock
        finally:
            lock.release()

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            with disk_for(self.root):
                yield
        except OSError as error:
            where = error.filename or self.root
            raise UserError(
                f"cannot write the cache {where}: {error.strerror}; set cache.root to a writable folder"
            ) from None


class _DamagedError(Exception):
    """An entry does not hold what was written."""


def _undamaged(path: Path, read: Callable[[Path], T]) -> T:
    """What is read of an entry.

    Raises:
        _DamagedError: its content is to blame.
        MemoryError, OSError: the process lacks memory or a right, or the file system fails.
    """
    try:
        return read(path)
    except Exception as error:  # of whatever library reads it
        cause: BaseException | None = error
        while cause:  # readers say in words of their own what they have met
            if lacks_memory(cause):
                raise MemoryError(first_line(cause)) from None
            if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
                raise cause from None
            cause = cause.__context__
        raise _DamagedError from error


class _Uses:
    """Marks the entries that this process uses, as long as it lives, by their time of modification.

    Times of access would say the same, were they not switched off on many a file system.
    """

    def __init__(self) -> None:
        self._paths: set[Path] = set()
        self._thread: threading.Thread | None = None

    def add(self, path: Path) -> bool:
        """Mark the path now and from now on; return whether it is there."""
        if not _mark(path):
            return False
        self._paths.add(path)
        if self._thread is None:
            self._thread = threading.Thread(target=self._mark_all, name="cache-uses", daemon=True)
            self._thread.start()
        return True

    def _mark_all(self) -> None:
        while True:
            time.sleep(_SIGN_OF_USE)
            self._paths.difference_update([path for path in [*self._paths] if not _mark(path)])


_uses = _Uses()


def _mark(path: Path) -> bool:
    """Set the time of modification, where this user may; return whether the path is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:
        return path.exists()
    return True


def _is_there(target: Path) -> bool:
    """Whether the entry is there; if so, it is in use from now on.

    Raises:
        UserError: this user may not read it.
    """
    with suppress(OSError), os.scandir(target.parent):
        pass  # NFS remembers for a while what was not there; opening the folder makes it ask the server
    try:
        if not _uses.add(target):
            return False
        os.close(os.open(target, os.O_RDONLY))
    except PermissionError as error:
        raise UserError(
            f"cannot read the cache {error.filename or target}: {error.strerror}; have its owner give it the "
            "permissions of the cache's folder, or set cache.root to another one"
        ) from None
    return True


def _unfinished(path: Path) -> str | None:
    """Name of the entry that a process was making at the path; none if the path is an entry itself."""
    return path.name[1:].rpartition(".")[0] if path.name.startswith(".") else None


def _copy_longest(begun: Sequence[Path], part: Path) -> None:
    """Go on with a copy of what was begun: its maker may yet be alive."""
    files = [path for path in begun if path.is_file() and os.access(path, os.R_OK)]
    if files:
        shutil.copyfile(max(files, key=lambda path: path.stat().st_size), part)


def _remove_at_once(path: Path, name: str) -> None:
    """Remove a file or folder from its place in one step, in which a folder could not be deleted."""
    grave = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=path.parent))
    try:
        path.replace(grave / name)
    finally:
        shutil.rmtree(grave)
