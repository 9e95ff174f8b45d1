"""Checkpoints by reference; the hub is a server on this machine."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from web_server import serve

from speakerquant.architectures.checkpoint_sources import checkpoint_path, shipped_checkpoint
from speakerquant.cache import Cache
from speakerquant.errors import UserError

CONTENT = b"weights" * 1000
FILE = "/someone/ecapa/resolve/main/sub/embedding_model.ckpt"
CUT_OFF = "/someone/ecapa/resolve/main/cut.ckpt"


class Hub(BaseHTTPRequestHandler):
    """One file of one repository, and one that always breaks off."""

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def _answer(self, *, with_content: bool) -> None:
        if self.path not in (FILE, CUT_OFF):
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if with_content:
            self.wfile.write(CONTENT[: 10 if self.path == CUT_OFF else None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    with serve(Hub) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def resolve(reference: str, endpoint: str, home: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the endpoint is read once."""
    script = (
        "import sys, time; from speakerquant.errors import UserError\n"
        "time.sleep = lambda _: None\n"  # between the client's tries
        "from speakerquant.architectures.checkpoint_sources import checkpoint_path\n"
        "from speakerquant.cache import Cache\n"
        "try: print(checkpoint_path(sys.argv[1], Cache()))\n"
        "except UserError as error: sys.exit(f'error: {error}')"
    )
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-c", script, reference],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_file_of_the_hub_is_downloaded_once_and_found_without_network(hub: str, tmp_path: Path) -> None:
    reference = "hf://someone/ecapa/sub/embedding_model.ckpt"
    first = resolve(reference, hub, tmp_path)
    assert first.returncode == 0, first.stderr
    assert Path(first.stdout.strip()).read_bytes() == CONTENT
    offline = resolve(reference, "http://127.0.0.1:9", tmp_path)
    assert offline.stdout == first.stdout


@pytest.mark.parametrize("file", ["nothing.ckpt", "cut.ckpt"])
def test_what_cannot_be_had_is_one_line(hub: str, file: str, tmp_path: Path) -> None:
    ended = resolve(f"hf://someone/ecapa/{file}", hub, tmp_path)
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: model.checkpoint=hf://someone/ecapa/{file}: cannot be downloaded")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("reference", ["hf://", "hf://someone", "hf://someone/ecapa", "hf://someone/ecapa/"])
def test_a_malformed_reference_is_named(reference: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hf://owner/name/file"):
        checkpoint_path(reference, Cache(tmp_path))


def test_paths_and_the_shipped_one(tmp_path: Path) -> None:
    assert checkpoint_path("shipped", Cache(tmp_path)) == shipped_checkpoint()
    assert shipped_checkpoint().is_file()
    assert checkpoint_path("models/mine.pt", Cache(tmp_path)) == Path("models/mine.pt")
