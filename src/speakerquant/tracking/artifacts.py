"""Artifacts are kept once: what MLflow has need not lie in the run's folder too."""

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
"""In the folder of a run: where the files are that are not in it."""


@dataclass(frozen=True)
class ArtifactReference:
    """Files of a run that only MLflow keeps.

    Attributes:
        uri: The MLflow store, without credentials.
        run_id: The run.
        files: Their names.
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
            entries = json.loads(path.read_text())
            reference = cls(entries["uri"], entries["run_id"], entries["files"])
            if not all(isinstance(name, str) for name in (reference.uri, reference.run_id, *reference.files)):
                raise TypeError
        except (OSError, ValueError, TypeError, KeyError):
            raise UserError(f"{path}: does not say where files are; find the run in MLflow's UI") from None
        return reference

    @staticmethod
    def forget(folder: Path) -> None:
        """Have files that MLflow keeps of an earlier run in the folder no longer stand for its own."""
        (folder / REFERENCE_FILE).unlink(missing_ok=True)


def keep_once(run: TrackedRun, paths: Sequence[Path]) -> None:
    """Free the room that files take which are artifacts of a run too, under the same names.

    Where MLflow keeps artifacts as files on the same file system, both become one file with two names: the
    files must not be changed in place. Where it keeps them elsewhere, a reference takes their place.
    """
    if (artifacts := run.artifact_folder()) is None:
        uri = without_credentials(run.tracking.client.tracking_uri)
        reference = ArtifactReference(uri, run.run_id, [path.name for path in paths])
        with atomic_path(paths[0].with_name(REFERENCE_FILE)) as part:
            part.write_text(json.dumps(asdict(reference), indent=2) + "\n")
        for path in paths:
            path.unlink()
        return
    for path in paths:
        with suppress(OSError), atomic_path(path) as part:  # on another file system it stays a copy
            os.link(artifacts / path.name, part)
