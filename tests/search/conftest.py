"""Storages to run the search on, and a search space with known results."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.storages import BaseStorage

from speakerquant.search.storage import open_storage


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Address of a database server that lives as long as the tests, in a folder of its own."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if shutil.which("initdb") is None else []
    path = os.pathsep.join([os.environ["PATH"], *map(str, reversed(binaries))])
    initdb, postgres = shutil.which("initdb", path=path), shutil.which("postgres", path=path)
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg", reason="the PostgreSQL driver psycopg is not installed")
    folder = Path(tempfile.mkdtemp(prefix="speakerquant-postgresql-"))
    # The server refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    try:
        subprocess.run(
            [initdb, "-D", str(data), "-U", "tester", "--auth=trust", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
            user=user,
            group=user,
        )
        options = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-c", "fsync=off"]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [postgres, *options], stdout=log, stderr=log, cwd=folder, user=user, group=user
            )
        url = f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
        _wait_for(port, server)
        yield url
        server.send_signal(signal.SIGINT)  # without waiting for clients
        server.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=tester dbname=postgres").close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None, "the database server ended"
            assert time.monotonic() < deadline, "the database server did not start"
            time.sleep(0.2)


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where processes share a study."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    return _locations(tmp_path)[request.param]


@pytest.fixture(params=["memory", "sqlite", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> BaseStorage:
    """Every kind of storage; databases differ when processes share them, which ``location`` is for."""
    return open_storage(None if request.param == "memory" else _locations(tmp_path)[request.param])


def _locations(folder: Path) -> dict[str, str]:
    return {"sqlite": f"sqlite:///{folder}/study.db", "journal": f"{folder}/study.journal"}


@pytest.fixture
def study_name(request: pytest.FixtureRequest) -> str:
    """Its own for every test: a database is shared by all."""
    return str(request.node.name)
