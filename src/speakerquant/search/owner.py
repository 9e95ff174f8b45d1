"""Which process runs a trial, and whether it still exists."""

import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 120.0
_CLOCKS_DIFFER = 3600.0  # seconds, at the very most, between two hosts
_START_TOLERANCE = 2.0  # psutil rounds the boot time to seconds


@dataclass(frozen=True)
class Owner:
    """A process: host, process id, and start (seconds since boot), because ids are used again."""

    host: str
    pid: int
    started: float

    @classmethod
    def this_process(cls) -> "Owner":
        """The process that calls."""
        pid = os.getpid()
        return cls(_host(), pid, _start(psutil.Process(pid)))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Owner":
        """The process that :meth:`record` describes."""
        return cls(str(record["host"]), int(record["pid"]), float(record["started"]))

    def record(self) -> dict[str, Any]:
        """A JSON-representable form."""
        return asdict(self)

    def is_gone(self, heartbeat: float, silence: float) -> bool:
        """Whether the process has ended, which another host can only tell by missing heartbeats.

        Args:
            heartbeat: Time of the last one by the clock of the process's host, which may be wrong.
            silence: For how many seconds whoever asks has seen no later one.
        """
        if self.host != _host():
            return silence > STALE_SECONDS or time.time() - heartbeat > STALE_SECONDS + _CLOCKS_DIFFER
        try:
            process = psutil.Process(self.pid)
            other = abs(_start(process) - self.started) > _START_TOLERANCE
            return bool(other or process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False

    @property
    def other_machine(self) -> str | None:
        """Name of the process's machine; none if it is this one, in another container perhaps."""
        (name, *boot), (own_name, *own_boot) = self.host.split()[:2], _host().split()[:2]
        return name if name != own_name and boot != own_boot else None


def _start(process: psutil.Process) -> float:
    """When a process started, in seconds since boot: the clock may be set while the process runs."""
    return process.create_time() - psutil.boot_time()


@cache
def _host() -> str:
    """Identifies a host or container, within which process ids are unique; host names alone repeat."""
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        processes = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        machine, processes = f"{uuid.getnode():012x}", 0
    return f"{socket.gethostname()} {machine} {processes}"
