"""What every command of the project shares: where its configuration is, and how it fails."""

import errno
import gc
import getpass
import io
import logging
import os
import re
import signal
import stat
import sys
import tempfile
import threading
import traceback
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

from speakerquant.configuration.composing import compose_once
from speakerquant.configuration.conversion import unknown_setting
from speakerquant.credentials import hide_credentials, hide_credentials_in_logs
from speakerquant.errors import UserError, first_line, lacks_memory
from speakerquant.files import atomic_path

RUN_NAMES = "a run's folder or a file of it, its id in MLflow (runs:/<id>), or models:/name@alias"
"""What users name a run by: in the help of every command that takes one, and where there is none."""

_SHOW_TRACEBACK = "HYDRA_FULL_ERROR"
_WISH = "SPEAKERQUANT_FULL_ERROR"  # what the user set, remembered for child processes
_WANTS_TRACEBACK = os.environ.setdefault(_WISH, os.environ.get(_SHOW_TRACEBACK, "0")) == "1"
_MASK_ENTRY = re.compile(r"\bmask\[([^\]]+)\]")  # as the loader has it
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
_NESTED = re.compile(r"[\w/+~@]+\.[\w.@]+=")  # an override of a setting inside a group
_TOO_MANY_OPEN = {errno.EMFILE, errno.ENFILE}
_NO_TEMPORARY_FOLDER = "No usable temporary directory"  # in Python's words
_UNSET_IF_EMPTY = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")  # as CI leaves a secret that is not there


def config_folder() -> str:
    """Absolute path of ``conf/``: inside an installed package, beside ``src/`` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return str(installed if installed.is_dir() else package.parents[1] / "conf")


class _Termination:
    """Ends the command where a signal finds it, so that open MLflow runs are closed."""

    def __init__(self) -> None:
        self.exit_code: int | None = None

    def __call__(self, number: int, _: object) -> None:
        if self.exit_code and number == signal.SIGHUP:
            return  # shells and the system both send it, while what the first began is closing
        self.exit_code = 128 + number  # as a shell says it
        if number == signal.SIGHUP:
            for output in (1, 2):
                with suppress(OSError):  # it is closed
                    if stat.S_ISCHR(os.fstat(output).st_mode):  # the terminal that was lost
                        _silence(output)
        sys.exit(self.exit_code)


def _end_on_termination() -> None:
    """End on SIGTERM and without a terminal as a command does; signals can be set in the main thread only."""
    is_in_main_thread = threading.current_thread() is threading.main_thread()
    if is_in_main_thread and not isinstance(signal.getsignal(signal.SIGTERM), _Termination):
        termination = _Termination()
        signal.signal(signal.SIGTERM, termination)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(signal.SIGHUP, termination)


def _end_if_terminated() -> None:
    """End the command now if a library has taken the exception that was to end it for an error of its own."""
    handler = signal.getsignal(signal.SIGTERM)
    if isinstance(handler, _Termination) and handler.exit_code:
        sys.exit(handler.exit_code)


def run_command(command: Callable[[], object], if_interrupted: str = "") -> None:
    """Run a command; a user's mistake ends in one line on standard error and exit code 2.

    With ``HYDRA_FULL_ERROR=1`` the traceback is shown instead.

    Args:
        command: What to run.
        if_interrupted: What Ctrl-C has the user told, beside that it has interrupted the command.
    """
    os.environ[_SHOW_TRACEBACK] = "1"  # or Hydra itself prints the error and exits before it reaches us
    _end_on_termination()
    hide_credentials_in_logs()
    # As PyTorch does when all of it is imported; where Ctrl-C comes before, it would log its caches at exit.
    logging.getLogger("torch").setLevel(logging.WARNING)
    _survive_closed_output()
    compose_once()
    JobReturn.return_value = JobReturn.return_value.getter(_returned)  # type: ignore[attr-defined,method-assign]
    sys.modules["hydra.main"].get_args_parser = _parser_of_flags_anywhere  # type: ignore[attr-defined]
    sys.argv[1:] = map(_with_home, sys.argv[1:])
    try:
        _complete_environment()
        command()
        sys.stdout.flush()
    except SystemExit:
        _end_if_terminated()  # Ray, which was waiting, has put another exit code in place
        raise
    except Exception as error:
        told = None if _WANTS_TRACEBACK else _told(error)
        if told is None:
            raise
        fail(told)
    except KeyboardInterrupt:
        print(f"interrupted{if_interrupted}", file=sys.stderr)
        sys.exit(130)


def _complete_environment() -> None:
    """Give libraries what they expect of every process: a working folder, a home and a user's name.

    Raises:
        UserError: the working folder is gone.
    """
    for name in _UNSET_IF_EMPTY:
        if not os.environ.get(name):
            os.environ.pop(name, None)
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the folder that the command was started in is gone; change to another") from None
    # A container may run as a user whom its system does not know.
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())


def _told(error: Exception) -> Exception | str | None:
    """What a user is told of a mistake or of what the machine lacks; none of a fault of this program."""
    if isinstance(error, UserError | HydraException | OmegaConfBaseException):
        return error
    if isinstance(error, ValueError) and _modules_of(error)[-1].startswith("hydra._internal."):
        return error  # Hydra's words on its own flags
    if isinstance(error, AssertionError | AttributeError) and _is_below_null(error):
        nested = " ".join(word for word in sys.argv[1:] if _NESTED.match(word))
        return (
            f"{nested}: a setting of a group that is null; choose one of the group's options first, such as "
            "model/front_end=wespeaker, whose settings can then be changed"
        )
    if lacks_memory(error):
        return f"not enough memory ({first_line(error)}); free or allow more, or use shorter recordings"
    if isinstance(error, OSError):
        if (error.strerror or "").startswith(_NO_TEMPORARY_FOLDER):
            return "no temporary folder can be written; make room there, or set TMPDIR to a writable folder"
        what = error.filename2 or error.filename or "a file"
        if error.errno in _TOO_MANY_OPEN:
            return f"cannot open {what}: {error.strerror}; allow more with: ulimit -n 4096"
        if error.errno in _UNWRITABLE:
            return f"cannot write {what}: {error.strerror}; choose another folder for the output or the cache"
    return None


def _with_home(argument: str) -> str:
    """``data.root=~/x`` as the shell gives ``root=~/x``, which it does not where the name has a dot."""
    name, sign, value = argument.partition("=")
    # Where there is no home, this leaves the text.
    parts = [os.path.expanduser(part) if part.startswith("~/") else part for part in value.split(",")]  # noqa: PTH111
    return name + sign + ",".join(parts)


@contextmanager
def importing() -> Iterator[None]:
    """Import in the block what a command needs once it is clear what it is to do.

    What PyTorch and MLflow create while they are imported lives until the end. To look through it for
    garbage, again and again while it grows and once more at exit, would take a sixth of a start.
    """
    number = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > number:  # or a job would freeze the garbage of those before it
            gc.freeze()
        gc.enable()


def _is_below_null(error: BaseException) -> bool:
    """Whether OmegaConf failed at a setting below a null, for which it has no error of its own."""
    modules = _modules_of(error)
    return modules[-1].startswith("omegaconf.") and "hydra._internal.config_loader_impl" in modules


def _modules_of(error: BaseException) -> list[str]:
    """The modules that an error has come through, from the outermost to where it was raised."""
    return [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]


def _returned(job: JobReturn) -> Any:
    """What a job returned; Hydra would write the overrides of one that failed, passwords and all, too."""
    assert job.status is not JobStatus.UNKNOWN
    if job.status is JobStatus.FAILED:
        raise job._return_value
    return job._return_value


def _parser_of_flags_anywhere() -> ArgumentParser:
    """Hydra's parser, which would take the overrides behind a flag amid others for mistakes."""
    parser = get_args_parser()
    parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]
    return parser


@contextmanager
def hydra_job() -> Iterator[None]:
    """What surrounds the work of every Hydra job.

    Relative paths are those of the folder that the command was started in, whatever ``hydra.job.chdir`` is.
    Passwords are hidden in what Hydra has written and in what this process will log. A user's mistake ends a
    single run before Hydra adds lines of its own; in a multirun Hydra must see the failure, and with
    ``HYDRA_FULL_ERROR=1`` the user wants it.
    """
    hydra = HydraConfig.get()
    is_multirun = hydra.mode is RunMode.MULTIRUN
    os.chdir(hydra.runtime.cwd)
    # In a worker process nothing has done these yet.
    hide_credentials_in_logs()
    _end_on_termination()
    if hydra.output_subdir:
        _hide_credentials_in_files((Path(hydra.runtime.output_dir) / hydra.output_subdir).glob("*.yaml"))
    if is_multirun:
        _hide_credentials_in_files([Path(hydra.sweep.dir) / "multirun.yaml"])
    try:
        yield
    except UserError as error:
        _end_if_terminated()
        if is_multirun or _WANTS_TRACEBACK:
            raise
        fail(error)
    except Exception:
        _end_if_terminated()
        raise
    _end_if_terminated()


def _hide_credentials_in_files(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_file() and (hidden := hide_credentials(text := path.read_text(encoding="utf-8"))) != text:
            with atomic_path(path) as part:
                part.write_text(hidden, encoding="utf-8")


def fail(error: Exception | str) -> NoReturn:
    """Print the error as one line and exit with code 2."""
    if isinstance(error, InterpolationResolutionError) and isinstance(error.__context__, UserError):
        error = error.__context__  # a resolver of ours was asked
    cause = error.__cause__ if isinstance(error, HydraException) else None
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key and cause.parent_node:
        parts = [unknown_setting(cause.full_key, map(str, cause.parent_node))]
    else:
        parts = [str(error), str(cause or "")]  # Hydra says which override, its cause says why
    lines = [line.strip() for part in parts for line in part.splitlines()]
    text = " ".join(line for line in lines if line and not line.startswith(_NOT_FOR_USERS))
    text = _MASK_ENTRY.sub(r"mask.\1", text)
    if isinstance(error, OverrideParseException):
        text = f"{error.override}: {text}; quote a value that holds '=' or other signs: 'key=\"value\"'"
    print(f"error: {hide_credentials(text)}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def by_product(path: Path) -> Iterator[None]:
    """Go on with a warning if a file that the command is not for, such as a picture, cannot be written."""
    try:
        yield
    except (OSError, UserError) as error:
        print(f"warning: {path} is left out: {hide_credentials(first_line(error))}", file=sys.stderr)


class _Output(io.FileIO):
    """Standard output that swallows what is written after its reader has gone, as ``head`` does."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            _silence(self.fileno())
            return len(data)


def _silence(output: int) -> None:
    """Let what is written to the file descriptor vanish."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output)
    os.close(nowhere)


def _survive_closed_output() -> None:
    """Let a command finish its work although nobody reads what it prints any more."""
    if sys.__stderr__ is None:  # closed from the beginning
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    output = sys.__stdout__
    if output is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    elif sys.stdout is output:
        raw = io.BufferedWriter(_Output(output.fileno(), "w", closefd=False))
        # A terminal that has no Δ shows a question mark.
        sys.stdout = io.TextIOWrapper(raw, output.encoding, "replace", line_buffering=True)
