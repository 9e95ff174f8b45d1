"""Where studies are kept: memory, a journal file, or a database."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage, get_storage
from sqlalchemy import event
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from speakerquant.errors import UserError, first_line, is_being_created
from speakerquant.search.journal import STORAGE_KEY, open_journal

_PATIENCE = 60  # seconds to wait for other processes' writes to a SQLite file
_CREATION_RETRIES, _CREATION_SECONDS = 10, 0.3
_CONNECT_TIMEOUT = 10  # seconds; a database that does not answer would otherwise hang for minutes
_RETRY_SECONDS = 1.0
_RESTART_SECONDS = 60  # how long a database that was open may be away, such as for a restart

log = logging.getLogger(__name__)


def open_storage(location: str | None) -> BaseStorage:
    """Open a database (URL) or a journal file (path), made on first use; ``None`` keeps the study in memory.

    Raises:
        UserError: the database does not answer, or the file cannot be read as what it should be.
    """
    if location is None:
        return InMemoryStorage()
    if "://" in location:
        return _open_database(location)
    _make_folder(Path(location))
    return open_journal(Path(location))


def is_for_several_machines(location: str) -> bool:
    """Whether several machines may use it at once: network storage may lack the locks that SQLite needs."""
    return not location.startswith(("sqlite:", "sqlite+"))


def _open_database(location: str) -> BaseStorage:
    try:
        url = make_url(location)
        arguments = {"connect_args": _connect_arguments(url)}
        if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
            _make_folder(Path(url.database))
            # Absolute, because a job may change the directory.
            location = str(url.set(database=str(Path(url.database).absolute())))
        for _ in range(_CREATION_RETRIES):
            try:
                return _opened(location, url, arguments)
            except (IntegrityError, ProgrammingError, StorageInternalError, OperationalError) as error:
                if not is_being_created(error):
                    raise
                time.sleep(_CREATION_SECONDS)
        return _opened(location, url, arguments)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{STORAGE_KEY}={shown(location)}: the database driver {error.name} is not installed; "
            "pip install it"
        ) from None
    except (SQLAlchemyError, StorageInternalError, RuntimeError, ImportError) as error:
        raise UserError(
            f"{STORAGE_KEY}={shown(location)}: the database cannot be opened ({_reason(error)}); "
            "start it, or check the address, the user and the password"
        ) from None


def _opened(location: str, url: URL, arguments: dict[str, Any]) -> BaseStorage:
    if url.get_backend_name() == "sqlite":
        return get_storage(RDBStorage(location, engine_kwargs=arguments))
    storage = RDBStorage(location, engine_kwargs={**arguments, "pool_pre_ping": True})
    event.listen(storage.engine, "do_connect", _Patience(shown(location)).connect)
    return get_storage(storage)


class _Patience:
    """Connects anew to a database that was open: waits for it while it is restarted.

    After it has waited in vain, further attempts fail at once, until one succeeds.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self._away_since: float | None = None

    def connect(self, dialect: Dialect, _: Any, arguments: Sequence[Any], settings: dict[str, Any]) -> Any:
        while True:
            try:
                connection = dialect.connect(*arguments, **settings)
            except dialect.loaded_dbapi.OperationalError:
                now = time.monotonic()
                if self._away_since is None:
                    self._away_since = now
                    log.warning(
                        "%s does not answer; waiting for it up to %d s", self._location, _RESTART_SECONDS
                    )
                if now - self._away_since > _RESTART_SECONDS:
                    raise
                time.sleep(_RETRY_SECONDS)
            else:
                self._away_since = None
                return connection


def _connect_arguments(url: URL) -> dict[str, Any]:
    backend = url.get_backend_name()
    if backend == "sqlite":
        return {"timeout": _PATIENCE}
    return {"connect_timeout": _CONNECT_TIMEOUT} if backend in ("postgresql", "mysql", "mariadb") else {}


def shown(location: str) -> str:
    """The location without its password."""
    try:
        return make_url(location).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return location


def _reason(error: BaseException) -> str:
    """The database's own message, which Optuna and SQLAlchemy wrap."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)[:200]


def _make_folder(path: Path) -> None:
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{STORAGE_KEY}={path}: cannot write {path.parent} ({error.strerror}); choose another folder"
        ) from None
