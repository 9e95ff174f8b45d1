"""Storages to run the search on, and a search space with known results."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.storages import BaseStorage
from servers import PostgreSql

from speakerquant.search.storage import open_storage


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Address of a database on a server that lives as long as the tests."""
    server = PostgreSql()
    yield server.url()
    server.remove()


@pytest.fixture(params=["sqlite", "journal", pytest.param("postgresql", marks=pytest.mark.cluster)])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where processes share a study."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    return _locations(tmp_path)[request.param]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that holds no study, and the tables, which take long to make."""
    path = tmp_path_factory.mktemp("empty") / "study.db"
    open_storage(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["memory", "sqlite", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> BaseStorage:
    """Every kind of storage; databases differ when processes share them, which ``location`` is for."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("empty_database"), tmp_path)
    return open_storage(None if request.param == "memory" else _locations(tmp_path)[request.param])


def _locations(folder: Path) -> dict[str, str]:
    return {"sqlite": f"sqlite:///{folder}/study.db", "journal": f"{folder}/study.journal"}


@pytest.fixture
def study_name(request: pytest.FixtureRequest) -> str:
    """Its own for every test: a database is shared by all."""
    return str(request.node.name)
