"""A web server of this process, for a test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serve(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[ThreadingHTTPServer]:
    """Serve on a free port of this host until the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        # It looks every hundredth of a second whether it is to end, not twice a second.
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
