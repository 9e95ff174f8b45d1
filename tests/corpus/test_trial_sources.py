"""Trial lists by reference; the web is a server on this machine."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from web_server import serve

from speakerquant.cache import Cache
from speakerquant.corpus.trial_sources import trial_list_path
from speakerquant.errors import UserError

CONTENT = b"1 a/1.wav a/2.wav\n0 a/1.wav b/1.wav\n1 a/1.wav a/2.wav\n"
PAGES = {"/meta/list.txt": CONTENT, "/page": b"<!DOCTYPE html>\n<p>sign in</p>\n", "/cut.txt": CONTENT[:20]}


class Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path not in PAGES:
            self.send_error(404)
            return
        self.send_response(200)
        content = PAGES[self.path]
        self.send_header("Content-Length", str(len(CONTENT if self.path == "/cut.txt" else content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with serve(Web) as web:
        yield web


@pytest.fixture
def address(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_a_list_is_downloaded_once_and_found_without_network(
    server: ThreadingHTTPServer, address: str, tmp_path: Path
) -> None:
    cache = Cache(tmp_path)
    path = trial_list_path(f"{address}/meta/list.txt", cache)
    assert path.read_bytes() == CONTENT and path.name.endswith("-list.txt")
    server.shutdown()
    server.server_close()
    assert trial_list_path(f"{address}/meta/list.txt", cache) == path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing.txt", r"nothing\.txt: cannot be downloaded \(status 404\)"),
        ("page", r"page:1: 2 fields.*is it the address of a trial list"),
        ("cut.txt", r"cut\.txt: cannot be downloaded"),
    ],
)
def test_what_is_no_list_is_one_line_and_not_kept(address: str, name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says) as caught:
        trial_list_path(f"{address}/{name}", Cache(tmp_path))
    assert "\n" not in str(caught.value)
    assert list(Cache(tmp_path).entries()) == []


def test_without_network_the_line_asks_for_a_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be downloaded \(no connection\).* give the path"):
        trial_list_path("http://127.0.0.1:9/list.txt", Cache(tmp_path))


def test_paths_stay_paths(tmp_path: Path) -> None:
    assert trial_list_path("lists/trials.txt", Cache(tmp_path)) == Path("lists/trials.txt")
