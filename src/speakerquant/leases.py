"""Locks that hold between processes of several hosts and users, on any file system."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import SoftFileLease, Timeout

_NOTICEABLE = 1.0  # seconds of waiting
_DEAD = 60.0  # seconds without a sign of life, after which others may take a lease


def lease(path: Path) -> SoftFileLease:
    """The lease of a path, not yet taken; its holder refreshes a file there."""
    # Others must be able to read who holds it, and need not write to it.
    return SoftFileLease(path, lease_duration=_DEAD, mode=0o644)


def take(wanted: SoftFileLease, on_wait: Callable[[], None]) -> None:
    """Take a lease as soon as its holder gives it up, or has given no sign of life for a minute.

    To take over what is stale filelock exchanges two files in one step, which NFS and others do not offer;
    there it is broken, so that for a moment two processes may believe that they hold it.

    Args:
        wanted: The lease.
        on_wait: Called once if it takes more than a second.
    """
    with suppress(Timeout):
        wanted.acquire(timeout=_NOTICEABLE)
        return
    on_wait()
    sign, since = _sign_of_life(wanted), time.monotonic()
    while True:
        with suppress(Timeout):
            wanted.acquire(timeout=5 * _NOTICEABLE, poll_interval=_NOTICEABLE)
            return
        if (latest := _sign_of_life(wanted)) != sign:
            sign, since = latest, time.monotonic()
        elif time.monotonic() - since > _DEAD:
            wanted.force_break()


def break_older(wanted: SoftFileLease, seconds: float) -> None:
    """Break a lease whose holder has given no sign of life for so long, by the file server's clock."""
    with suppress(FileNotFoundError):
        if time.time() - Path(wanted.lock_file).stat().st_mtime > seconds:
            wanted.force_break()


def _sign_of_life(held: SoftFileLease) -> tuple[int, int] | None:
    """What changes as long as the holder lives; none if there is none."""
    with suppress(FileNotFoundError):
        marker = Path(held.lock_file).stat()
        return marker.st_ino, marker.st_mtime_ns
    return None
