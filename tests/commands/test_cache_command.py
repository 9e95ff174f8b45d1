"""``speakerquant-cache``: what is in the cache, and what is removed of it."""

import os
import time
from functools import partial
from pathlib import Path

import pytest

from speakerquant.cache import Cache
from speakerquant.commands import manage_cache

from .conftest import Command


@pytest.fixture
def command(invoke: Command) -> Command:
    return partial(invoke, manage_cache.main)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache with two entries of two million bytes each, the first of which was used two hours ago."""
    cache = Cache(tmp_path / "cache")
    for kind in ("features", "graphs"):
        cache.get(kind, "key", lambda path: path.write_bytes(bytes(2_000_000)) and None)
    two_hours_ago = time.time() - 7200
    os.utime(cache.root / "features" / "key", (two_hours_ago, two_hours_ago))
    return cache.root


def test_show_tells_what_each_kind_takes(command: Command, root: Path) -> None:
    finished = command("show", "--root", root)
    assert finished.code == 0, finished.err
    rows = [line.split("│")[1:4] for line in finished.out.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert cells == [["features", "1", "2.0"], ["graphs", "1", "2.0"], ["all", "2", "4.0"]]


def test_prune_says_what_it_removed_and_why_more_is_left(command: Command, root: Path) -> None:
    finished = command("prune", "--root", root, "--max-bytes", "1e6")
    assert finished.code == 0, finished.err
    assert "removed 1 entries, 2.0 MB" in finished.out
    assert "the rest is being made, was used within the last hour, or is another user's" in finished.out
    assert [entry.kind for entry in Cache(root).entries()] == ["graphs"]


def test_prune_removes_nothing_below_the_limit(command: Command, root: Path) -> None:
    assert "removed 0 entries" in command("prune", "--root", root, "--max-bytes", "20e9").out
    assert len([*Cache(root).entries()]) == 2


@pytest.mark.parametrize("size", ["-1", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(command: Command, root: Path, size: str) -> None:
    finished = command("prune", "--root", root, "--max-bytes", size)
    assert finished.code == 2
    [line] = finished.err.splitlines()
    assert line == f"error: --max-bytes {size}: give a number of bytes, such as 20e9"


def test_a_folder_that_is_not_there_is_no_cache(command: Command, tmp_path: Path) -> None:
    for arguments in (["show"], ["prune", "--max-bytes", "0"]):
        finished = command(*arguments, "--root", tmp_path / "nowhere")
        assert finished.code == 2
        assert finished.err.splitlines() == [
            f"error: {tmp_path / 'nowhere'}: there is no cache; give its folder with --root"
        ]
