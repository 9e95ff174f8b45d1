"""A child process that answers requests: what crashes, hangs or runs out of memory does so there only."""

import signal
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from speakerquant.engine.tensorrt.worker.protocol import Message, read_message, write_message
from speakerquant.errors import UserError

_GRACE = 2.0  # seconds for a process that has been killed, or has closed its output, to be gone


class WorkerProcess:
    """One worker; it ends when it is closed, with this object, and whenever this process ends.

    Args:
        command: Program and arguments.
        name: What error messages call it.
        time_limit: Seconds from a request to the end of its answer, after which it counts as hung.

    Raises:
        UserError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], name: str, time_limit: float) -> None:
        self._name = name
        self._time_limit = time_limit
        self._turn = threading.Lock()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._output,
                start_new_session=True,  # Ctrl-C is this process's to handle
            )
        except OSError as error:
            raise UserError(f"{name}: {command[0]} cannot be started ({error.strerror})") from None
        self.close = weakref.finalize(self, _end, self._process)

    def ask(self, request: str, payload: bytes = b"", **fields: Any) -> Message:
        """Send a request and wait for its answer; one request at a time, from any number of threads.

        Raises:
            UserError: the worker says that it failed, ends, or takes too long.
        """
        with self._turn:
            if not self.close.alive:
                raise UserError(f"{self._name}: its process has been stopped")
            deadline = time.monotonic() + self._time_limit
            try:
                answer, answer_payload = self._exchange({"do": request, **fields}, payload)
            except (OSError, EOFError):
                if time.monotonic() >= deadline:
                    self.close()
                    raise UserError(
                        f"{self._name}: no answer to {request} within "
                        f"engine.time_limit={self._time_limit:g} s; its process was stopped"
                    ) from None
                raise UserError(f"{self._name}: its process {self._ending()} during {request}") from None
            except ValueError:
                self.close()
                raise UserError(f"{self._name}: its process does not answer as a worker does") from None
        if "error" in answer:
            raise UserError(f"{self._name}: {answer['error']}")
        return answer, answer_payload

    def _exchange(self, request: dict[str, Any], payload: bytes) -> Message:
        """Whatever it hangs in, sending, computing or answering, ends with the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        watchdog = threading.Timer(self._time_limit, self._process.kill)
        watchdog.start()
        try:
            write_message(self._process.stdin, request, payload)
            return read_message(self._process.stdout)
        finally:
            watchdog.cancel()

    def _ending(self) -> str:
        """How the process ended, with the last line that it printed."""
        try:
            code = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.close()
            return "stopped answering and was ended"
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._output.seek(0)
        printed = self._output.read().decode(errors="replace").strip().splitlines()
        return f"{how} ({printed[-1].strip()})" if printed else how


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    with suppress(subprocess.TimeoutExpired):  # a driver may hold it; it dies when that lets go
        process.wait(_GRACE)
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with suppress(OSError):  # what can no longer be written
            stream.close()
