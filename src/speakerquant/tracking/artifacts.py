"""Which run in MLflow a folder is of; and artifacts are kept once: what MLflow has need not lie there too."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from speakerquant.credentials import without_credentials
from speakerquant.errors import UserError
from speakerquant.files import atomic_path
from speakerquant.tracking.runs import TrackedRun

REFERENCE_FILE = "artifacts.json"
"""In the folder of a run: what MLflow calls it, and which of its files are there only."""


@dataclass(frozen=True)
class ArtifactReference:
    """The run in MLflow that a folder is of.

    Attributes:
        uri: The MLflow store, without credentials.
        run_id: The run.
        files: Names of the files that only MLflow keeps.
    """

    uri: str
    run_id: str
    files: Sequence[str]

    @classmethod
    def find(cls, folder: Path) -> "ArtifactReference | None":
        """The reference in the folder of a run, if there is one.

        Raises:
            UserError: it cannot be read.
        """
        path = folder / REFERENCE_FILE
        if not path.is_file():
            return None
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            reference = cls(entries["uri"], entries["run_id"], entries["files"])
            if not all(isinstance(name, str) for name in (reference.uri, reference.run_id, *reference.files)):
                raise TypeError
        except (OSError, ValueError, TypeError, KeyError):
            raise UserError(f"{path}: does not say where files are; find the run in MLflow's UI") from None
        return reference

    @classmethod
    def leave(cls, run: TrackedRun, folder: Path, files: Sequence[str] = ()) -> None:
        """Write into the folder which run it is of, and which files only MLflow keeps."""
        reference = cls(without_credentials(run.tracking.client.tracking_uri), run.run_id, files)
        with atomic_path(folder / REFERENCE_FILE) as part:
            part.write_text(json.dumps(asdict(reference), indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def forget(folder: Path) -> None:
        """Have the folder no longer be that of an earlier run, whose files would stand for its own."""
        (folder / REFERENCE_FILE).unlink(missing_ok=True)


def keep_once(run: TrackedRun, paths: Sequence[Path]) -> None:
    """Free the room that files take which are artifacts of a run too, under the same names.

    Where MLflow keeps artifacts as files on the same file system, both become one file with two names: the
    files must not be changed in place. Where it keeps them elsewhere, a reference takes their place.
    """
    if (artifacts := run.artifact_folder()) is None:
        ArtifactReference.leave(run, paths[0].parent, [path.name for path in paths])
        for path in paths:
            path.unlink()
        return
    for path in paths:
        with suppress(OSError), atomic_path(path) as part:  # on another file system it stays a copy
            os.link(artifacts / path.name, part)
