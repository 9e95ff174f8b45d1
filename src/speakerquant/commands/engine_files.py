"""Runs as users name them, and their engines and graphs, wherever these are kept."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from speakerquant.commands.console_script import RUN_NAMES, config_folder
from speakerquant.credentials import without_credentials
from speakerquant.engine.provenance import engine_path, find_engine, provenance_path, read_provenance
from speakerquant.errors import UserError, said_as
from speakerquant.measuring.build import ONNX_FILE
from speakerquant.measuring.result import LABELS_FILE, RESULT_FILE, SCORES_FILE
from speakerquant.tracking.artifacts import ArtifactReference
from speakerquant.tracking.recorded_runs import downloaded_file, find_mask_run
from speakerquant.tracking.registry import downloaded_model, is_model_address, parameters_of, run_of_model
from speakerquant.tracking.runs import TrackedRun
from speakerquant.verification.served_verifier import THRESHOLD

_RUN = "runs:/"
_ID = re.compile("[0-9a-f]{32}")
_SHOWN = 8  # of the runs in a folder


@contextmanager
def folder_for_copies(address: str) -> Iterator[Path]:
    """A folder for the block, for copies of what MLflow keeps; errors name the address instead of the folder.

    Args:
        address: What the user calls it.
    """
    with tempfile.TemporaryDirectory() as folder, said_as({folder: address}):
        yield Path(folder)


@dataclass(frozen=True)
class FoundEngine:
    """An engine that a user has named.

    Attributes:
        path: Its file, with what lies beside it.
        threshold: The one that it is registered with; none if it is not a registered model.
    """

    path: Path
    threshold: float | None


@contextmanager
def found_engine(name: str) -> Iterator[FoundEngine]:
    """The engine of a run, with what lies beside it; what only MLflow keeps is fetched for the block.

    Args:
        name: Of the run (:data:`RUN_NAMES`), or path of an engine that was taken elsewhere.

    Raises:
        UserError: there is none, or several; or MLflow has lost it or does not answer.
    """
    path, threshold = Path(name), None
    with folder_for_copies(name) as copies:
        if is_model_address(name):
            path = downloaded_model(_default_store(), name, copies)
            threshold = parameters_of(path).get(THRESHOLD)
        elif isinstance(place := _located(name), TrackedRun):
            path = download_engine(place, copies)
        elif not (path.is_file() and provenance_path(path).is_file()):
            path = place
        engine = find_engine(path)
        read_provenance(engine)  # or what is asked of it next would be said to be wrong
        yield FoundEngine(engine, threshold)


@contextmanager
def found_graph(name: str) -> Iterator[Path]:
    """The ONNX graph of a run's mask; what only MLflow keeps is fetched for the block.

    Args:
        name: Of the run (:data:`RUN_NAMES`), or path of a graph that was taken elsewhere.

    Raises:
        UserError: there is none, or its run did not finish; or MLflow has lost it or does not answer.
    """
    path = Path(name)
    with folder_for_copies(name) as copies:
        if isinstance(place := _located(name), TrackedRun):
            path = downloaded_file(place.tracking, place.run_id, ONNX_FILE, copies)
        elif place.is_dir() and path.name != ONNX_FILE:
            path = place / ONNX_FILE
            if not path.is_file():
                raise UserError(f"{path}: no such file; give {RUN_NAMES}")
            if not (place / RESULT_FILE).is_file():
                raise UserError(
                    f"{place}: has no {RESULT_FILE}, as its run did not finish, and what its mask loses is "
                    f"not known; run it again, or give {path}"
                )
        yield path


def recorded_run(name: str, uri: str) -> TrackedRun:
    """The run of a mask in MLflow.

    Args:
        name: Of the run (:data:`RUN_NAMES`).
        uri: MLflow's store.

    Raises:
        UserError: there is none, or several; or MLflow does not answer.
    """
    if run_id := _run_id(name, uri):
        return find_mask_run(uri, run_id)
    folder = _folder(Path(name))
    reference = ArtifactReference.find(folder) if folder else None
    if reference is None:
        raise UserError(
            f"{name}: nothing there says which run in MLflow it is of; give {_RUN}<id>, with the id that its "
            "page in MLflow shows"
        )
    return find_mask_run(uri, reference.run_id)


def download_engine(run: TrackedRun, folder: Path) -> Path:
    """Copy the engine of a run, what made it, and what tells its threshold; returns the engine's path.

    Raises:
        UserError: the run has lost its files.
    """
    result = json.loads(
        downloaded_file(run.tracking, run.run_id, RESULT_FILE, folder).read_text(encoding="utf-8")
    )
    engine = engine_path(folder, result["engine"])
    for name in (engine.name, provenance_path(engine).name, SCORES_FILE, LABELS_FILE):
        downloaded_file(run.tracking, run.run_id, name, folder)
    return engine


def _located(name: str) -> TrackedRun | Path:
    """The run that keeps engine and graph in MLflow; or the folder that they are in, or a file of no run."""
    uri = _default_store()
    if run_id := _run_id(name, uri):
        return find_mask_run(uri, run_id)
    folder = _folder(Path(name))
    if folder is None:
        return Path(name)
    reference = ArtifactReference.find(folder)
    # A later run may have left its own there.
    if reference and reference.files and not any((folder / each).exists() for each in reference.files):
        # Which was noted without the password.
        store = uri if without_credentials(uri) == reference.uri else reference.uri
        return find_mask_run(store, reference.run_id)
    return folder


def _run_id(name: str, uri: str) -> str | None:
    """The id of the run that MLflow knows by a name; none of a path."""
    if is_model_address(name):
        return run_of_model(uri, name)
    if name.startswith(_RUN):
        return name.removeprefix(_RUN)
    return name if _ID.fullmatch(name) and not Path(name).exists() else None


def _folder(path: Path) -> Path | None:
    """The folder of the run that a path leads to, down from above or up from a file; none of another file.

    Raises:
        UserError: there is nothing, or several runs are below.
    """
    if path.is_dir():
        runs = {result.parent: result.stat().st_mtime for result in path.rglob(RESULT_FILE)}
        if path in runs or not runs:
            return path
        if len(runs) == 1:
            return next(iter(runs))
        newest = sorted(runs, key=lambda run: runs[run], reverse=True)
        names = [str(run.relative_to(path)) for run in newest]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise UserError(
            f"{path}: the folder of {len(names)} runs; give that of one: {', '.join(names[:_SHOWN])}{more}"
        )
    reference = ArtifactReference.find(path.parent)
    if path.is_file():
        is_of_run = path.name in (ONNX_FILE, RESULT_FILE) or provenance_path(path).is_file()
        return path.parent if is_of_run and (path.parent / RESULT_FILE).is_file() else None
    if reference is None or path.name not in reference.files:
        raise UserError(f"{path}: no such file; give {RUN_NAMES}")
    return path.parent


def _default_store() -> str:
    """The address of MLflow's store where no configuration says another one."""
    uri: str = OmegaConf.load(Path(config_folder()) / "tracking" / "default.yaml").uri
    return uri
