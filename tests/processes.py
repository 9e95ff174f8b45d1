"""Processes that start at once: forked from a server that has imported what takes seconds."""

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        *("pytest", "speakerquant.commands.evaluation", "hydra_plugins.optuna_sweeper._implementation"),
        *("speakerquant.commands.mask_search_application", "speakerquant.report.png_picture"),
        *("plotly.graph_objects", "mlflow.store.tracking.sqlalchemy_store"),
    ]  # and no engines: importing them starts threads, which a fork loses
)


class Program:
    """A function in a process of its own, with the environment of this one and further variables.

    ``output`` is what it prints, errors too, to be read as it comes.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *arguments: object,
        folder: Path | None = None,
        **variables: str,
    ) -> None:
        read, write = PROCESSES.Pipe(duplex=False)
        environment = {**os.environ, **variables}
        self._process = PROCESSES.Process(
            target=_run, args=(write, folder or Path.cwd(), environment, function, arguments)
        )
        self._process.start()
        write.close()
        self.output = os.fdopen(os.dup(read.fileno()))
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()

    def stop(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def end(self) -> tuple[int, str]:
        """Wait for its end; its exit code, negative where a signal ended it, and the rest of its output."""
        with self.output:
            printed = self.output.read()
        self._process.join(timeout=200)
        assert self._process.exitcode is not None, "it closed its output and has not ended"
        return self._process.exitcode, printed


def start_command(main: Callable[[], None], *arguments: object, folder: Path) -> Program:
    """What a console script starts, with what would be typed behind its name."""
    return Program(_typed, main, ["speakerquant", *map(str, arguments)], folder=folder)


def _typed(main: Callable[[], None], argv: list[str]) -> None:
    sys.argv = argv
    main()


def _run(
    output: Connection,
    folder: Path,
    environment: dict[str, str],
    function: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    gc.enable()  # conftest.py, which a test's function brings along, turns it off
    # As in a process that a shell has started, which has no server to fork from.
    multiprocessing.set_start_method(None, force=True)
    function(*arguments)
