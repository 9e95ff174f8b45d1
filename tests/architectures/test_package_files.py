"""Files out of packages: pip itself, on an index that is a server on this machine."""

import hashlib
import logging
import re
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from web_server import serve

from speakerquant.architectures.checkpoint_sources import checkpoint_path
from speakerquant.cache import Cache
from speakerquant.errors import UserError

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = "voices/models/campplus.pt"
REFERENCE = f"pypi://voices-demo==1.0/{FILE}"


class Index(SimpleHTTPRequestHandler):
    """A folder, whose listings are the pages of an index."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel that would leave a trace if anything of it were run."""
    folder = tmp_path / "simple" / "voices-demo"
    folder.mkdir(parents=True)
    path = folder / "voices_demo-1.0-py3-none-any.whl"
    trace = f"open({str(tmp_path / 'trace')!r}, 'w')"
    metadata = {
        "METADATA": "Metadata-Version: 2.1\nName: voices-demo\nVersion: 1.0\nRequires-Dist: missing\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(FILE, CONTENT)
        archive.writestr("voices/__init__.py", trace)
        archive.writestr("voices/models/readme.md", "about")
        for name, text in metadata.items():
            archive.writestr(f"voices_demo-1.0.dist-info/{name}", text)
    return path


@pytest.fixture(autouse=True)
def index(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What pip takes for the package index."""
    handler = partial(Index, directory=str(wheel.parent.parent.parent))
    with serve(handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/simple"
        for name, value in {"CONFIG_FILE": "/dev/null", "INDEX_URL": address, "FIND_LINKS": ""}.items():
            monkeypatch.setenv(f"PIP_{name}", value)
        yield address


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.mark.parametrize("pin", ["", f"#sha256={SHA256}"])
def test_a_file_of_a_package_is_downloaded_once_and_found_without_network(
    pin: str,
    cache: Cache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    path = checkpoint_path(REFERENCE + pin, cache)
    assert path.read_bytes() == CONTENT
    said = r"campplus.pt is in voices-demo==1.0: Downloading \S+none-any.whl \([\d.]+ kB\)"
    assert re.search(said, caplog.text)
    assert (SHA256 in caplog.text) == (not pin)  # what to pin it by is said once
    assert [entry.path for entry in cache.entries()] == [path]
    assert not (tmp_path / "trace").exists()
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert checkpoint_path(REFERENCE + pin, cache) == path


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("pypi://voices-demo==2.0/x.pt", "requirement voices-demo==2.0 (from versions: 1.0)"),
        ("pypi://nothing-like-this==1.0/x.pt", "requirement nothing-like-this==1.0 (from versions: none)"),
        ("pypi://voices-demo==1.0/voices/campplus.pt", f"no voices/campplus.pt; the nearest are {FILE}"),
        ("pypi://voices-demo==1.0/0123456789", "voices-demo==1.0 has no 0123456789"),
        (f"{REFERENCE}#sha256={'0' * 64}", f"has the SHA-256 {SHA256}, another than is pinned"),
    ],
)
def test_what_cannot_be_had_is_one_line(reference: str, said: str, cache: Cache) -> None:
    with pytest.raises(UserError) as caught:
        checkpoint_path(reference, cache)
    assert str(caught.value).startswith(f"model.checkpoint={reference}: ")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not list(cache.entries())


def test_no_network_is_one_line(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(UserError, match="no connection to the package index") as caught:
        checkpoint_path(REFERENCE, cache)
    assert "\n" not in str(caught.value)


def test_no_pip_is_one_line(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(UserError, match=r"needs pip, and .* has none; install pip, or give a path"):
        checkpoint_path(REFERENCE, cache)


def test_a_damaged_wheel_is_one_line(wheel: Path, cache: Cache) -> None:
    content = bytearray(wheel.read_bytes())
    content[content.index(CONTENT)] ^= 1  # its checksum in the archive stays
    wheel.write_bytes(content)
    with pytest.raises(UserError, match="the wheel is damaged"):
        checkpoint_path(REFERENCE, cache)
    assert not list(cache.entries())


@pytest.mark.parametrize(
    "reference",
    [
        "pypi://",
        "pypi://voices-demo",
        "pypi://voices-demo==1.0",
        "pypi://voices-demo==1.0/",
        "pypi://voices-demo>=1.0/x.pt",
        "pypi://--index-url=http://x==1.0/x.pt",
        f"{REFERENCE}#sha256=123",
        f"{REFERENCE}#md5={'0' * 32}",
    ],
)
def test_a_malformed_reference_is_named(reference: str, cache: Cache) -> None:
    with pytest.raises(UserError, match="not of the form pypi://package==version/path/in/the/wheel"):
        checkpoint_path(reference, cache)
