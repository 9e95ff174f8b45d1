"""What speakerquant and its TensorRT worker say to each other.

A message is one line of JSON, then as many bytes as its ``payload_bytes`` says. The worker answers every
request on its standard output with one message; one with ``error`` says what went wrong. Everything in this
folder runs on Python 3.8 and without speakerquant.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from contextlib import suppress
from typing import IO, Any, Callable, Dict, Mapping, Tuple

Message = Tuple[Dict[str, Any], bytes]
Operation = Callable[..., Message]
"""Takes a request's fields as keywords, and its ``payload``."""


class WorkerError(Exception):
    """Something a user can mend, in one line."""


def write_message(stream: IO[bytes], fields: Mapping[str, Any], payload: bytes = b"") -> None:
    """Send one message."""
    stream.write(json.dumps({**fields, "payload_bytes": len(payload)}).encode() + b"\n")
    stream.write(payload)
    stream.flush()


def read_message(stream: IO[bytes]) -> Message:
    """Wait for one message.

    Raises:
        EOFError: the other side has gone.
        ValueError: what came is no message.
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    fields = json.loads(line)
    if not isinstance(fields, dict) or not isinstance(fields.get("payload_bytes"), int):
        raise ValueError("not a message")
    size = fields.pop("payload_bytes")
    payload = stream.read(size)
    if len(payload) != size:
        raise EOFError
    return fields, payload


def serve(make_operations: Callable[[], Mapping[str, Operation]]) -> None:
    """Answer requests until the other side goes, and then end at once, whatever is being done.

    Operations are made when the first request has come, so that what fails there is answered too.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get among the messages
    requests = queue.Queue()  # type: queue.Queue[Message]
    threading.Thread(target=_receive, args=(sys.stdin.buffer, requests), daemon=True).start()
    operations = None
    while True:
        fields, payload = requests.get()
        try:
            operations = operations or make_operations()
            answer, answer_payload = operations[fields.pop("do")](payload=payload, **fields)
        except WorkerError as error:
            answer, answer_payload = {"error": str(error)}, b""
        except Exception as error:  # whatever it is, it ends this request and not the worker
            answer, answer_payload = {"error": f"{type(error).__name__}: {error}"}, b""
        write_message(answers, answer, answer_payload)


def _receive(stream: IO[bytes], requests: queue.Queue[Message]) -> None:
    with suppress(EOFError, ValueError):
        while True:
            requests.put(read_message(stream))
    os._exit(0)
