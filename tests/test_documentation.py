"""The documentation site, built from this checkout and opened from its files in a real browser."""

import html
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import BROWSER, browse

import speakerquant

pytestmark = [
    pytest.mark.slow,
    pytest.mark.release,
    pytest.mark.skipif(find_spec("material") is None, reason="the extra docs is not installed"),
]

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors: no page is missing, and every link leads somewhere."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=\"?(https?:)?//")
    assert [page.name for page in site.glob("*.html") if loaded.search(page.read_text())] == []


def test_reference_is_that_of_the_code(site: Path) -> None:
    configuration, commands, api = (
        text_of(site / f"{name}.html") for name in ("configuration", "commands", "api")
    )
    for path in (PROJECT / "conf").rglob("*.yaml"):
        assert path.read_text().strip() in configuration, path
    for command in ("speakerquant-verify", "speakerquant-cache prune", "speakerquant-data check"):
        assert f"$ {command} --help\nusage: {command} " in commands
    for name in speakerquant.__all__:
        assert name in api


def text_of(page: Path) -> str:
    """The text of a page as it is read, without markup."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
@pytest.mark.parametrize(("width", "is_dark"), [(1500, False), (390, True)])
def test_search_finds_a_network_without_a_server(site: Path, width: int, is_dark: bool) -> None:
    page, log = browse(f"{(site / 'index.html').as_uri()}?q=CAM%2B%2B", width=width, is_dark=is_dark)
    assert "CONSOLE" not in log
    assert f'data-md-color-scheme="{"slate" if is_dark else "default"}"' in page
    found = re.findall(r'<a href="[^"]*?/([a-z_]+)\.html[^"]*" class="md-search-result__link"', page)
    assert "networks" in found
