"""The servers that a cluster shares: PostgreSQL, an S3 store, MLflow's server."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PASSWORD = "correct horse"
_USER = "tester"
_START_SECONDS = 90.0


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgreSql:
    """A database server that asks for a password.

    Args:
        address: Where it listens, beside 127.0.0.1.
        network: Further clients that it answers, such as 10.0.0.0/8.
    """

    def __init__(self, address: str | None = None, network: str | None = None) -> None:
        self.host = address or "127.0.0.1"
        self.port = free_port()
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if shutil.which("initdb") is None else []
        path = os.pathsep.join([os.environ["PATH"], *map(str, reversed(binaries))])
        initdb, postgres = shutil.which("initdb", path=path), shutil.which("postgres", path=path)
        if initdb is None or postgres is None:
            pytest.skip("PostgreSQL is not installed")
        pytest.importorskip("psycopg", reason="the PostgreSQL driver psycopg is not installed")
        self._folder = Path(tempfile.mkdtemp(prefix="speakerquant-postgresql-"))
        # The server refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if self._user:
            for each in (self._folder, password):
                shutil.chown(each, self._user, self._user)
        data = self._folder / "data"
        made = [initdb, "-D", str(data), "-U", _USER, "--auth=scram-sha-256", f"--pwfile={password}"]
        subprocess.run(
            [*made, "--no-sync"],
            check=True,
            capture_output=True,
            cwd=self._folder,
            user=self._user,
            group=self._user,
        )
        if network:
            with (data / "pg_hba.conf").open("a") as access:
                access.write(f"host all all {network} scram-sha-256\n")
        listen = ",".join(dict.fromkeys(("127.0.0.1", self.host)))
        options = ["-D", str(data), "-p", str(self.port), "-h", listen, "-k", str(self._folder)]
        self._command = [postgres, *options, "-c", "fsync=off"]
        self.start()

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        """SQLAlchemy's address of a database."""
        return (
            f"postgresql+psycopg://{_USER}:{password.replace(' ', '%20')}@{self.host}:{self.port}/{database}"
        )

    def create(self, database: str) -> str:
        """Make a database and return its address."""
        self._execute(f'create database "{database}"')
        return self.url(database)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        import psycopg

        with (self._folder / "log").open("a") as log:
            self._server = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=self._folder, user=self._user, group=self._user
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._execute("select 1")
                return
            except psycopg.OperationalError:
                assert self._server.poll() is None, "the database server ended"
                assert time.monotonic() < deadline, "the database server did not start"
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server, as for a restart: without waiting for its clients."""
        self._server.send_signal(signal.SIGINT)
        self._server.wait(timeout=30)

    def remove(self) -> None:
        """Stop the server and remove its folder."""
        if self._server.poll() is None:
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname="postgres",
            user=_USER,
            password=PASSWORD,
            autocommit=True,
        ) as connection:
            connection.execute(statement.encode())


class WebServer:
    """A command that serves HTTP on a port, and answers at a path when it is ready."""

    def __init__(self, command: Sequence[str], url: str, path: str, log: Path, **environment: str) -> None:
        self.url = url
        self._command, self._path, self._log = command, path, log
        self._environment = {**os.environ, **environment}
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with self._log.open("a") as log:
            self._server = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{self.url}{self._path}", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                assert self._server.poll() is None, self._log.read_text()[-2000:]
                assert time.monotonic() < deadline, f"{self._command[0]} did not start"
                time.sleep(0.2)

    def stop(self) -> None:
        """End the server and its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self._server.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._server.wait(timeout=10)
        with suppress(ProcessLookupError):
            os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()


BUCKET = "artifacts"
_ACCESS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": PASSWORD,
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def s3_store(folder: Path) -> Iterator[Mapping[str, str]]:
    """An S3 store with a bucket, in memory; yields the environment by which MLflow's server finds it."""
    pytest.importorskip("moto", reason="the S3 store moto is not installed")
    boto3 = pytest.importorskip("boto3", reason="boto3, which MLflow needs for S3, is not installed")
    port = free_port()
    program = str(Path(sys.executable).with_name("moto_server"))
    server = WebServer(
        [program, "-p", str(port)], f"http://127.0.0.1:{port}", "/moto-api/", folder / "s3.log"
    )
    try:
        client = boto3.client(
            "s3",
            endpoint_url=server.url,
            aws_access_key_id=_ACCESS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=_ACCESS["AWS_SECRET_ACCESS_KEY"],
            region_name=_ACCESS["AWS_DEFAULT_REGION"],
        )
        client.create_bucket(Bucket=BUCKET)
        yield {**_ACCESS, "MLFLOW_S3_ENDPOINT_URL": server.url}
    finally:
        server.stop()


def mlflow_server(folder: Path, database: str, s3: Mapping[str, str], host: str = "127.0.0.1") -> WebServer:
    """MLflow's server with its records in a database and its artifacts in the bucket."""
    port = free_port()
    command = [
        str(Path(sys.executable).with_name("mlflow")),
        "server",
        f"--host={host}",
        f"--port={port}",
        "--workers=1",
        f"--backend-store-uri={database}",
        f"--artifacts-destination=s3://{BUCKET}",
        "--serve-artifacts",
    ]
    settings = {**s3, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # it starts faster
    return WebServer(command, f"http://{host}:{port}", "/health", folder / "mlflow.log", **settings)
