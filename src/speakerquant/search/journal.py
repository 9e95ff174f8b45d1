"""Studies in a journal file: a line of JSON for every operation, appended by all who work on it."""

import json
import logging
import os
from pathlib import Path
from typing import BinaryIO

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from speakerquant.errors import UserError, first_line

STORAGE_KEY = "hydra.sweeper.storage"
"""Configuration key of the place where studies are kept."""

_LOCK_SECONDS = 10  # a lock is held for one write; an older one is of a process that was killed
_CHUNK = 1 << 16  # bytes from the end that are read first; a record is shorter, as a rule

log = logging.getLogger(__name__)


def open_journal(path: Path) -> JournalStorage:
    """Open a journal, made on first use in an existing folder.

    Raises:
        UserError: it cannot be written, or it is no journal or one damaged elsewhere than in its last line,
            and is left as it is.
    """
    location = str(path.absolute())  # a job may change the directory
    try:
        lock = _WholeLines(location)
        backend = JournalFileBackend(location, lock)
        lock.acquire()  # which looks at the file before anything is written
        lock.release()
        return JournalStorage(backend)
    except UserError:
        raise
    except OSError as error:
        raise UserError(
            f"{STORAGE_KEY}={path}: cannot be opened ({error.strerror}); choose another file"
        ) from None
    except Exception as error:  # whatever replaying a broken record may raise
        raise _unreadable(path, _broken_line(path) or first_line(error)) from None


class _WholeLines(JournalFileSymlinkLock):
    """The lock of a journal, under which there are none but whole lines.

    A process that is killed amid a write, a full disk, or a machine that goes down leaves a part of a line.
    Whatever was appended behind it would be lost, and the whole journal with it. Who holds the lock knows
    that nobody is still writing that line, drops it, and keeps it aside.
    """

    def __init__(self, location: str) -> None:
        super().__init__(location, _LOCK_SECONDS)
        self._path = Path(location)

    def acquire(self) -> bool:
        super().acquire()
        try:
            _drop_cut_line(self._path)
        except BaseException:
            self.release()
            raise
        return True


def _drop_cut_line(path: Path) -> None:
    """Take what is behind the last record off the file, unless it is more than one line cut short.

    Raises:
        UserError: it is more, or there is no record; or the file is gone.
    """
    try:
        with path.open("rb") as file:
            end = _end_of_records(file)
            file.seek(end)
            rest = file.read()
    except FileNotFoundError:
        raise UserError(
            f"{STORAGE_KEY}={path}: is gone; restore it, and run the same command again"
        ) from None
    if not rest:
        return
    if end == 0 or sum(bool(line.strip()) for line in rest.split(b"\n")) > 1:
        raise _unreadable(path, _broken_line(path) or "it has no record")
    aside = path.with_name(f"{path.name}.cut")
    with aside.open("ab") as kept:
        kept.write(rest.rstrip(b"\n") + b"\n")
        os.fsync(kept.fileno())
    with path.open("r+b") as file:
        file.truncate(end)
        os.fsync(file.fileno())
    log.warning(
        "%s: its last line was cut short, by a full disk or a killed process; it is dropped, and kept in %s",
        path,
        aside,
    )


def _end_of_records(file: BinaryIO) -> int:
    """Where the last line ends that is a record; 0 if none is."""
    size, length = file.seek(0, os.SEEK_END), _CHUNK
    while True:
        start = max(0, size - length)
        file.seek(start)
        content = file.read(size - start)
        end = content.rfind(b"\n")
        while end >= 0:
            before = content.rfind(b"\n", 0, end)
            if before < 0 and start > 0:
                break  # the line begins before what was read
            if _is_record(content[before + 1 : end]):
                return start + end + 1
            end = before
        if start == 0:
            return 0
        length *= 16


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _broken_line(path: Path) -> str | None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not _is_record(line):
                return f"line {number} is broken"
    return None


def _unreadable(path: Path, reason: str) -> UserError:
    return UserError(
        f"{STORAGE_KEY}={path}: not a readable journal ({reason}); "
        "restore it, move it away, or, for a database, give a URL such as sqlite:///file.db"
    )
