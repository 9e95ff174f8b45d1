"""What surrounds a command that may be a multirun; it is light, as ``--help`` waits for it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.config_store import ConfigStore

_PARENT_RUN = "speakerquant.commands.multirun.ParentRun"


@contextmanager
def recorded_multirun() -> Iterator[None]:
    """Record the multirun that Hydra starts in the block, if it starts one.

    However Hydra ends, the parent run is closed, and what the jobs measured is shown and logged. For Hydra to
    find the callback, the primary configuration must have
    ``optional base/callbacks@hydra.callbacks: recorded_multirun`` among its defaults.
    """
    with tempfile.TemporaryDirectory(prefix="speakerquant-") as folder:
        journal = Path(folder) / "parent_run.json"
        callback = {"_target_": _PARENT_RUN, "journal": str(journal)}
        ConfigStore.instance().store("recorded_multirun", {"parent_run": callback}, group="base/callbacks")
        succeeded = False
        try:
            yield
            succeeded = True
        finally:
            if journal.exists():
                # Of a single run it is not needed.
                from speakerquant.commands.multirun import close_parent_run, folder_in_use

                with folder_in_use:
                    close_parent_run(journal, succeeded)
