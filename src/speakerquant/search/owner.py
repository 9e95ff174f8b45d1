"""Who runs a trial, and whether that process is still there."""

import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 120.0
# The start of a process is derived from the boot time, which clock corrections shift a little.
_START_TOLERANCE = 2.0


@dataclass(frozen=True)
class Owner:
    """A process: host, process id, and start (seconds since the epoch), because ids are used again."""

    host: str
    pid: int
    started: float

    @classmethod
    def this_process(cls) -> "Owner":
        pid = os.getpid()
        return cls(_host(), pid, psutil.Process(pid).create_time())

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Owner":
        return cls(str(record["host"]), int(record["pid"]), float(record["started"]))

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def is_gone(self, heartbeat: float) -> bool:
        """Whether the process has ended: seen directly on its own host, elsewhere by an old heartbeat."""
        if self.host != _host():
            return time.time() - heartbeat > STALE_SECONDS
        try:
            process = psutil.Process(self.pid)
            other = abs(process.create_time() - self.started) > _START_TOLERANCE
            return bool(other or process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True


def _host() -> str:
    return f"{socket.gethostname()}-{uuid.getnode():012x}"  # names alone repeat: every laptop is "localhost"
