"""What every command of the project shares: where its configuration is, and how it fails."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from speakerquant.errors import UserError

_SHOW_TRACEBACK = "HYDRA_FULL_ERROR"
_WISH = "SPEAKERQUANT_FULL_ERROR"  # what the user set, remembered for child processes
_WANTS_TRACEBACK = os.environ.setdefault(_WISH, os.environ.get(_SHOW_TRACEBACK, "0")) == "1"
# Where a key is, in the libraries' own terms; and advice that the schemas make void.
_NOT_FOR_USERS = (
    "full_key:",
    "object_type=",
    "reference_type=",
    "Config search path:",
    "provider=",
    "To append to",
)
_UNWRITABLE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
}


def config_folder() -> str:
    """Absolute path of ``conf/``: inside an installed package, beside ``src/`` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return str(installed if installed.is_dir() else package.parents[1] / "conf")


def run_command(command: Callable[[], object]) -> None:
    """Run a command; a user's mistake ends in one line on standard error and exit code 2.

    With ``HYDRA_FULL_ERROR=1`` the traceback is shown instead.
    """
    os.environ[_SHOW_TRACEBACK] = "1"  # or Hydra itself prints the error and exits before it reaches us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that open MLflow runs are closed
    try:
        command()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if _WANTS_TRACEBACK:
            raise
        fail(error)
    except OSError as error:
        if _WANTS_TRACEBACK or error.errno not in _UNWRITABLE:
            raise
        what = error.filename2 or error.filename or "a file"
        fail(f"cannot write {what}: {error.strerror}; choose another folder for the output or the cache")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def wants_traceback() -> bool:
    """Whether the user asked for tracebacks with ``HYDRA_FULL_ERROR=1``."""
    return _WANTS_TRACEBACK


def fail(error: Exception | str) -> NoReturn:
    """Print the error as one line and exit with code 2."""
    parts = [str(error)]
    if isinstance(error, HydraException) and error.__cause__ is not None:
        parts.append(str(error.__cause__))  # Hydra says which override, its cause says why
    lines = [line.strip() for part in parts for line in part.splitlines()]
    text = " ".join(line for line in lines if line and not line.startswith(_NOT_FOR_USERS))
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)
