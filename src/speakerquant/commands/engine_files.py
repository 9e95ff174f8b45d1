"""Engines and graphs as users name them: a file, the folder of a run, or what MLflow keeps."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from speakerquant.commands.console_script import config_folder
from speakerquant.engine.provenance import engine_path, find_engine, provenance_path
from speakerquant.errors import UserError, said_as
from speakerquant.measuring.build import ONNX_FILE
from speakerquant.measuring.result import LABELS_FILE, RESULT_FILE, SCORES_FILE
from speakerquant.tracking.artifacts import ArtifactReference
from speakerquant.tracking.client import Tracking, find_experiment_of_run
from speakerquant.tracking.recorded_runs import downloaded_file
from speakerquant.tracking.registry import downloaded_model, is_model_address, parameters_of
from speakerquant.verification.served_verifier import THRESHOLD

_RUN = "runs:/"


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
def found_engine(model: str) -> Iterator[FoundEngine]:
    """The file of an engine, with what lies beside it; what only MLflow keeps is fetched for the block.

    Args:
        model: Path of an engine or of a folder with one, or MLflow's address of a registered model.

    Raises:
        UserError: there is none, or several; or MLflow has lost it or does not answer.
    """
    path, threshold = Path(model), None
    with folder_for_copies(model) as copies:
        if is_model_address(model):
            path = downloaded_model(_default_store(), model, copies)
            threshold = parameters_of(path).get(THRESHOLD)
        elif reference := _reference(path):
            tracking = find_experiment_of_run(reference.uri, reference.run_id)
            path = download_engine(tracking, reference.run_id, copies)
        engine = find_engine(path)
        if not engine.is_file():
            raise UserError(
                f"{engine}: no such file; give an engine, the folder of a run, or models:/name@alias of a "
                "registered model"
            )
        yield FoundEngine(engine, threshold)


@contextmanager
def found_graph(run: str) -> Iterator[Path]:
    """The ONNX graph of a mask; what only MLflow keeps is fetched for the block.

    Args:
        run: Path of the graph or of the folder of a run, or MLflow's address of a run.

    Raises:
        UserError: there is none, or its run did not finish; or MLflow has lost it or does not answer.
    """
    path = Path(run)
    with folder_for_copies(run) as copies:
        reference = _reference(path)
        if run.startswith(_RUN):
            reference = ArtifactReference(_default_store(), run.removeprefix(_RUN), [ONNX_FILE])
        if reference:
            tracking = find_experiment_of_run(reference.uri, reference.run_id)
            path = downloaded_file(tracking, reference.run_id, ONNX_FILE, copies)
        elif path.is_dir():
            folder, path = path, path / ONNX_FILE
            if path.is_file() and not (folder / RESULT_FILE).is_file():
                raise UserError(
                    f"{folder}: has no {RESULT_FILE}, as its run did not finish, and what its mask loses is "
                    f"not known; run it again, or give {path}"
                )
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; give the folder of one run, or {_RUN}<id> with MLflow's id of it"
            )
        yield path


def _default_store() -> str:
    """The address of MLflow's store where no configuration says another one."""
    uri: str = OmegaConf.load(Path(config_folder()) / "tracking" / "default.yaml").uri
    return uri


def _reference(path: Path) -> ArtifactReference | None:
    """What says where the engine is, if it is not at its path, or not in this folder of a run, any more."""
    if path.is_file():
        return None
    folder = path if path.is_dir() else path.parent
    reference = ArtifactReference.find(folder)
    if reference is None or any((folder / name).exists() for name in reference.files):
        return None  # a later run has left its own there
    return reference if path.is_dir() or path.name in reference.files else None


def download_engine(tracking: Tracking, run_id: str, folder: Path) -> Path:
    """Copy the engine of a run, what made it, and what tells its threshold; returns the engine's path.

    Raises:
        UserError: there is no such run, or it has lost its files.
    """
    result = json.loads(downloaded_file(tracking, run_id, RESULT_FILE, folder).read_text())
    engine = engine_path(folder, result["engine"])
    for name in (engine.name, provenance_path(engine).name, SCORES_FILE, LABELS_FILE):
        downloaded_file(tracking, run_id, name, folder)
    return engine
