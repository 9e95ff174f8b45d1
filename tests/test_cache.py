"""The content-addressed store."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from speakerquant.cache import Cache, atomic_path, digest
from speakerquant.errors import UserError


def test_an_entry_is_made_once_even_by_concurrent_callers(tmp_path: Path) -> None:
    made = []

    def make(path: Path) -> None:
        made.append(path)
        time.sleep(0.05)
        path.write_text("value")

    cache = Cache(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        entries = list(pool.map(lambda _: cache.get("kind", "key", make), range(4)))
    assert len(made) == 1
    assert {entry.read_text() for entry in entries} == {"value"}


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_maker_leaves_no_entry(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from speakerquant.cache import Cache\n"
        "def make(path):\n"
        "    path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "Cache(Path(sys.argv[1])).get('kind', 'key', make)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == -9
    entry = Cache(tmp_path).get("kind", "key", lambda path: path.write_text("whole") and None)
    assert entry.read_text() == "whole"
    assert list((tmp_path / "kind").iterdir()) == [entry]


def test_work_that_was_broken_off_is_continued_and_done_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def begin(path: Path) -> None:
        path.write_text("begun")
        raise KeyboardInterrupt

    def go_on(path: Path) -> None:
        path.write_text(path.read_text() + ", finished")

    with pytest.raises(KeyboardInterrupt):
        cache.continued("kind", "key", begin)
    for make in (go_on, begin):
        assert cache.continued("kind", "key", make).read_text() == "begun, finished"
    assert [path.name for path in (tmp_path / "kind").iterdir()] == ["key"]


def test_who_waits_for_another_process_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    cache = Cache(tmp_path)
    at_work = threading.Event()

    def make(path: Path) -> None:
        at_work.set()
        time.sleep(2)
        path.touch()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.get, "kind", "key", make)
        at_work.wait()
        assert cache.get("kind", "key", make) == first.result()
    assert "waiting for another process, which is making the same kind" in caplog.text


def test_unwritable_cache_is_said_in_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(UserError, match=r"cache\.root"):
        Cache(blocked).get("kind", "key", lambda path: path.touch())


def test_digest_tells_values_apart() -> None:
    assert digest(1, "a") == digest(1, "a")
    assert len({digest(1, "a"), digest("1", "a"), digest(1, "b"), digest([1, "a"])}) == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is of Linux")
@pytest.mark.parametrize("how", ["text", "array"])
def test_a_full_disk_names_the_file(how: str, tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.symlink_to("/dev/full")
        if how == "text":
            path.write_text("content")
        else:
            with path.open("wb") as file:
                np.save(file, np.zeros(100_000))

    with pytest.raises(UserError, match="No space left on device; free some space") as caught:
        Cache(tmp_path).get("kind", "key", make)
    assert str(tmp_path / "kind" / "key") in str(caught.value)
    assert not (tmp_path / "kind" / "key").exists()
