"""The content-addressed store."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from speakerquant.cache import Cache, Entry, _Uses
from speakerquant.errors import ServiceError, UserError
from speakerquant.files import atomic_path, digest, write_from_memory


def names(root: Path) -> list[str]:
    """Names of all entries of a kind, finished or not."""
    return sorted(entry.path.name for entry in Cache(root).entries() if entry.kind == "kind")


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
    assert names(tmp_path) == [entry.name]


def test_work_that_was_broken_off_is_continued_and_done_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def begin(path: Path) -> None:
        path.write_text("begun")
        raise KeyboardInterrupt

    def go_on(path: Path) -> None:
        path.write_text(path.read_text() + ", finished")

    with pytest.raises(KeyboardInterrupt):
        cache.get("kind", "key", begin, continues=True)
    [left] = (tmp_path / "kind").glob(".key.*")
    for number, shorter in enumerate(("beg", "")):  # of others, who were taken for dead
        (left.with_name(f".key.{number}")).mkdir()
        (left.with_name(f".key.{number}") / "key").write_text(shorter)
    for make in (go_on, begin):
        assert cache.get("kind", "key", make, continues=True).read_text() == "begun, finished"
    assert names(tmp_path) == ["key"]


def whole_text(path: Path) -> str:
    if (text := path.read_text()) != "whole":
        raise ValueError("it is cut")
    return text


def test_a_damaged_entry_is_made_anew_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, made = Cache(tmp_path), []

    def make(path: Path) -> None:
        made.append(path)
        path.write_text("whole")

    def read(_: object) -> str:
        return cache.read("kind", "key", make, whole_text)

    assert read(0) == "whole"
    (tmp_path / "kind" / "key").write_text("who")
    assert cache.find("kind", "key", whole_text) is None
    with ThreadPoolExecutor(4) as pool:
        assert {*pool.map(read, range(4))} == {"whole"}
    assert len(made) == 2
    assert f"{tmp_path / 'kind' / 'key'} is damaged, and made anew" in caplog.text
    assert names(tmp_path) == ["key"]


@pytest.mark.parametrize("is_said_otherwise", [False, True])
@pytest.mark.parametrize(
    ("lacking", "raised"),
    [
        (MemoryError(), MemoryError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError),
        (OSError(errno.EMFILE, "Too many open files"), OSError),
    ],
)
def test_an_entry_is_not_made_anew_for_what_its_reader_lacks(
    lacking: Exception, raised: type[Exception], is_said_otherwise: bool, tmp_path: Path
) -> None:
    def read(path: Path) -> None:
        try:
            raise lacking
        except Exception:
            if is_said_otherwise:
                raise UserError(f"{path}: not what it should be") from None
            raise

    with pytest.raises(raised):
        Cache(tmp_path).read("kind", "key", Path.touch, read)
    assert names(tmp_path) == ["key"]


def test_who_waits_for_another_process_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("speakerquant.leases._NOTICEABLE", 0.1)
    cache = Cache(tmp_path)
    at_work = threading.Event()

    def make(path: Path) -> None:
        at_work.set()
        time.sleep(0.5)
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
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert len({digest(1, "a"), digest("1", "a"), digest(1, "b"), digest([1, "a"])}) == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is of Linux")
@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("content"),
        lambda path: np.array(range(100_000)).tofile(path),
        lambda path: write_from_memory(path, partial(torch.save, torch.zeros(100_000))),
    ],
    ids=["text", "NumPy", "PyTorch"],
)
def test_a_full_disk_names_the_file(write: Callable[[Path], object], tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.symlink_to("/dev/full")
        write(path)

    with pytest.raises(UserError, match="No space left on device; free some space") as caught:
        Cache(tmp_path).get("kind", "key", make)
    assert str(tmp_path / "kind" / "key") in str(caught.value)
    assert not (tmp_path / "kind" / "key").exists()


MAKER = """
import os, signal, sys, time
from pathlib import Path
from speakerquant import cache, leases

root, signal_number, continues = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
leases._DEAD = float(sys.argv[4])

def make(path):
    with (root / "made").open("a") as file:
        file.write("made\\n")
    with path.open("a") as file:
        file.write("half,")
    time.sleep(0.3)
    if signal_number:
        os.kill(os.getpid(), signal_number)
    with path.open("a") as file:
        file.write("whole")

print(cache.Cache(root / "cache").get("kind", "key", make, continues=continues).read_text())
"""


def maker(
    root: Path, host: str | None = None, kill: int = 0, continues: bool = False, dead: float = 60.0
) -> "subprocess.Popen[str]":
    """A process, of another host if it has a name, that makes an entry and gets a signal amid it."""
    command = [sys.executable, "-c", MAKER, *map(str, (root, kill, continues, dead))]
    if host is not None:
        command = ["unshare", "--uts", "sh", "-c", f'hostname {host} && exec "$@"', "sh", *command]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE)


def may_create_namespaces() -> bool:
    command = ["unshare", "--uts", "--mount", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, check=False).returncode == 0


other_hosts = pytest.mark.skipif(
    not may_create_namespaces(), reason="this user may not give processes another host name"
)
other_users = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@other_hosts
def test_an_entry_is_made_once_by_processes_of_several_hosts(tmp_path: Path) -> None:
    makers = [maker(tmp_path, host) for host in ("a", "b") for _ in range(3)]
    assert {process.communicate()[0].strip() for process in makers} == {"half,whole"}
    assert (tmp_path / "made").read_text() == "made\n"
    assert names(tmp_path / "cache") == ["key"]


@other_hosts
@pytest.mark.parametrize(("continues", "content"), [(False, "half,whole"), (True, "half,half,whole")])
def test_the_entry_of_a_host_that_died_is_made_by_another(
    continues: bool, content: str, tmp_path: Path
) -> None:
    assert maker(tmp_path, "a", signal.SIGKILL, continues, dead=1.0).wait() == -signal.SIGKILL
    start = time.monotonic()
    assert maker(tmp_path, "b", continues=continues, dead=1.0).communicate()[0].strip() == content
    assert time.monotonic() - start > 1.0


@pytest.mark.parametrize("continues", [False, True])
def test_a_maker_that_was_wrongly_taken_for_dead_is_no_harm(continues: bool, tmp_path: Path) -> None:
    frozen = maker(tmp_path, kill=signal.SIGSTOP, continues=continues, dead=0.5)
    os.waitpid(frozen.pid, os.WUNTRACED)
    content = maker(tmp_path, continues=continues, dead=0.5).communicate()[0].strip()
    frozen.send_signal(signal.SIGCONT)
    assert frozen.communicate()[0].strip() == content
    assert frozen.returncode == 0


@pytest.fixture
def shared() -> Iterator[Cache]:
    """A cache of the group 12345, in a folder that others can enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        cache = Cache(Path(folder) / "cache")
        cache.root.mkdir()
        os.chown(cache.root, 0, 12345)
        cache.root.chmod(0o2770)
        Cache(Path(folder) / "first").get("kind", "key", make_folder)  # all that is imported late is imported
        yield cache


def as_user(user: int, umask: int, task: Callable[[], object]) -> int:
    """Do something as a user of the group 12345 in a process of its own; return what that exits with."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    with suppress(BaseException):
        os.setgroups([12345])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        os.umask(umask)
        task()
        code = 0
    os._exit(code)


def make_folder(path: Path) -> None:
    (path / "inner").mkdir(parents=True)
    (path / "inner" / "file").write_text("whole")


def killed(path: Path) -> None:
    path.write_text("begun")
    os.kill(os.getpid(), signal.SIGKILL)


def age(cache: Cache, hours: float = 2) -> None:
    """Let the entries be used as long ago, the first first."""
    for number, entry in enumerate(sorted(cache.entries(), key=lambda entry: entry.path.name)):
        then = time.time() - hours * 3600 + number
        for path in (entry.path, *entry.path.rglob("*")):
            os.utime(path, (then, then))


@other_users
def test_users_of_a_group_share_a_cache_whatever_their_umask(shared: Cache) -> None:
    def use() -> None:
        [entry] = shared.entries()
        assert not entry.is_in_use
        assert (shared.get("kind", "folder", killed) / "inner" / "file").read_text() == "whole"
        [entry] = shared.entries()
        assert entry.is_in_use

    assert as_user(3001, 0o077, lambda: shared.get("kind", "folder", make_folder)) == 0
    for path in (shared.root / "kind").rglob("*"):
        assert path.stat().st_gid == 12345
        assert stat.S_IMODE(path.stat().st_mode) == (0o2770 if path.is_dir() else 0o660), path
    age(shared)
    assert as_user(3002, 0o022, use) == 0
    age(shared)
    assert as_user(3002, 0o022, lambda: [*shared.prune(0)]) == 0
    assert names(shared.root) == []


@other_users
@pytest.mark.parametrize("closed", ["kind", "kind/folder", "kind/file"])
def test_what_another_user_keeps_to_himself_is_said_in_one_line(shared: Cache, closed: str) -> None:
    def use() -> None:
        with pytest.raises(
            UserError, match=f"cannot read the cache .*{closed}.*: Permission denied; .*cache.root"
        ):
            shared.get("kind", "file" if closed == "kind" else Path(closed).name, killed)

    assert as_user(3001, 0o077, lambda: shared.get("kind", "folder", make_folder)) == 0
    assert (
        as_user(3001, 0o077, lambda: shared.get("kind", "file", lambda path: path.write_text("") and None))
        == 0
    )
    (shared.root / closed).chmod(0o700)
    assert as_user(3002, 0o022, use) == 0


@other_users
def test_what_a_killed_user_has_begun_another_goes_on_with(shared: Cache) -> None:
    def go_on(path: Path) -> None:
        path.write_text(path.read_text() + ", finished")

    assert as_user(3001, 0o022, lambda: shared.get("kind", "key", killed, continues=True)) == -signal.SIGKILL
    assert as_user(3002, 0o077, lambda: shared.get("kind", "key", go_on, continues=True)) == 0
    assert shared.get("kind", "key", killed, continues=True).read_text() == "begun, finished"
    assert names(shared.root) == ["key"]


@contextmanager
def mounted(folder: Path, *arguments: object) -> Iterator[None]:
    """The folder on another file system: permissions do not stop root."""
    if subprocess.run(["mount", *map(str, arguments), folder], check=False).returncode:
        pytest.skip("this user may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def write_file(folder: Path) -> None:
    with atomic_path(folder / "kind" / "key") as part:
        part.write_text("content")


def write_entry(folder: Path) -> None:
    Cache(folder).get("kind", "key", make_folder)


def write_tensors(folder: Path) -> None:
    Cache(folder).get("kind", "key", lambda path: save_file({"array": np.zeros(1)}, path))


@other_hosts
@pytest.mark.parametrize(
    ("write", "num_files"),
    [
        *((write_file, number) for number in range(3)),
        *((write_entry, number) for number in range(5)),
        (write_tensors, 4),
    ],
)
def test_a_disk_is_full_whichever_file_or_folder_it_has_no_room_for(
    write: Callable[[Path], None], num_files: int, tmp_path: Path
) -> None:
    small = ("-t", "tmpfs", "-o", f"nr_inodes={1 + num_files}", "tmpfs")
    full = pytest.raises(ServiceError, match="No space left on device; free some space")
    with mounted(tmp_path, *small), full as caught:
        write(tmp_path)
    assert str(tmp_path) in str(caught.value)


@other_hosts
def test_a_cache_that_can_only_be_read_serves_what_it_has(tmp_path: Path) -> None:
    entry = Cache(tmp_path).get("kind", "key", make_folder)
    with mounted(tmp_path, "--bind", "-o", "ro", tmp_path):
        assert Cache(tmp_path).get("kind", "key", killed) == entry
        with pytest.raises(UserError, match=r"cache\.root"):
            Cache(tmp_path).get("kind", "another", make_folder)


def three_entries(root: Path) -> Cache:
    cache = Cache(root)
    for key in "abc":
        cache.get("kind", key, lambda path: path.write_bytes(bytes(100)) and None)
    age(cache)
    return cache


def test_pruning_removes_what_was_not_used_for_longest(tmp_path: Path) -> None:
    cache = three_entries(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "precious").write_bytes(bytes(1000))
    os.utime(tmp_path / "kind" / "a", (time.time() - 4000,) * 2)
    assert [entry.path.name for entry in cache.prune(200)] == ["b"]
    assert [*cache.prune(200)] == []
    assert names(tmp_path) == ["a", "c"]
    assert (tmp_path / "results" / "precious").exists()


def test_pruning_leaves_what_is_in_use_or_being_made(tmp_path: Path) -> None:
    cache = three_entries(tmp_path)
    user = Cache(tmp_path)
    assert user.find("kind", "a", Path.stat) is not None

    def make(path: Path) -> None:
        path.touch()
        age(cache)
        assert cache.find("kind", "a", Path.stat)
        assert [entry.path.name for entry in cache.prune(0)] == ["b", "c"]
        assert path.exists()

    cache.get("kind", "d", make)
    assert names(tmp_path) == ["a", "d"]


def test_pruning_leaves_what_was_used_within_the_hour_or_since_it_began(tmp_path: Path) -> None:
    cache = three_entries(tmp_path)
    pruned = cache.prune(0)
    assert next(pruned).path.name == "a"
    assert cache.find("kind", "b", Path.stat)
    assert [entry.path.name for entry in pruned] == ["c"]
    age(cache, hours=50 / 60)
    assert [*cache.prune(0)] == []


def test_pruning_removes_what_killed_makers_left(tmp_path: Path) -> None:
    assert maker(tmp_path, kill=signal.SIGKILL).wait() == -signal.SIGKILL
    cache = Cache(tmp_path / "cache")
    assert [*cache.prune(0)] == []
    age(cache)
    [removed] = cache.prune(0)
    assert (removed.kind, removed.is_finished, removed.num_bytes) == ("kind", False, len("half,"))
    assert names(cache.root) == []


@other_hosts
def test_pruning_removes_what_a_host_left_that_went_down(tmp_path: Path) -> None:
    assert maker(tmp_path, host="gone", kill=signal.SIGKILL).wait() == -signal.SIGKILL
    cache = Cache(tmp_path / "cache")
    [lock] = (cache.root / "kind" / ".locks").iterdir()
    os.utime(lock, (0, 0))
    age(cache)
    assert [entry.is_finished for entry in cache.prune(0)] == [False]


def test_a_killed_maker_is_replaced_where_files_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, module in sys.modules.items():
        if name.startswith("filelock") and hasattr(module, "exchange_names"):
            monkeypatch.setattr(module, "exchange_names", lambda *_: False)  # as NFS answers
    monkeypatch.setattr("speakerquant.leases._DEAD", 0.5)
    monkeypatch.setattr("speakerquant.leases._NOTICEABLE", 0.2)
    assert maker(tmp_path, kill=signal.SIGKILL, dead=0.5).wait() == -signal.SIGKILL
    entry = Cache(tmp_path / "cache").get("kind", "key", lambda path: path.write_text("whole") and None)
    assert entry.read_text() == "whole"


def test_what_a_process_uses_stays_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = three_entries(tmp_path)
    monkeypatch.setattr("speakerquant.cache._SIGN_OF_USE", 0.05)
    monkeypatch.setattr("speakerquant.cache._uses", _Uses())
    assert cache.find("kind", "b", Path.stat)
    age(cache)
    until = time.monotonic() + 60
    while not Entry.at(tmp_path / "kind" / "b").is_in_use and time.monotonic() < until:
        time.sleep(0.05)
    assert [entry.path.name for entry in cache.prune(0)] == ["a", "c"]
