"""What 0.1.0 has left (``tests/data``) is read, or one line says how to go on; nothing of it changes."""

import hashlib
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from mlflow.models import get_model_info
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from speakerquant.architectures.checkpoints import load_checkpoint
from speakerquant.commands import (
    export_mask,
    inspect_engine,
    manage_cache,
    register_model,
    show_report,
    train_network,
    verify_speaker,
)

from .conftest import Command, Workspace

pytestmark = pytest.mark.slow

ARCHIVE = Path(__file__).parents[1] / "data" / "0.1.0.tar.xz"
ITS_FOLDER = "/srv/speech"  # where the archive was packed; MLflow's store has whole paths
RUN = "a494cb149eff45fc9f6c755293388c15"
STORE = "tracking.uri=sqlite:///mlflow.db"
MODEL = "models:/verifier@champion"
AGAIN = "of an earlier version of this program; measure the mask again"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    with sqlite3.connect(folder / "mlflow.db") as store:
        for table, column in {
            "runs": "artifact_uri",
            "logged_models": "artifact_location",
            "experiments": "artifact_location",
            "model_versions": "storage_location",
        }.items():
            store.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (ITS_FOLDER, str(folder)))
    store.close()
    return folder


@pytest.fixture
def earlier(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the files, to work in; they are as they were at the end."""
    monkeypatch.chdir(unpacked)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    before = _digests(unpacked)
    yield unpacked
    after = _digests(unpacked)
    assert {path: after.get(path) for path in before} == before


def test_an_engine_verifies_by_a_threshold(earlier: Path, workspace: Workspace, invoke: Command) -> None:
    recordings = sorted(workspace.corpus.rglob("*.wav"))[:2]
    verified = invoke(verify_speaker.main, "--model", "runs/0", *recordings)
    assert verified.code == 2
    assert verified.err.startswith("error: runs/0/")
    assert f"result.json: {AGAIN}, or give a threshold" in verified.err
    assert verified.err.count("\n") == 1
    for model in ("runs/0", MODEL):
        verified = invoke(verify_speaker.main, "--model", model, "--threshold", 0.99, *recordings)
        assert verified.code == 0, verified.err
    [registered] = get_model_info(MODEL).signature.params
    verified = invoke(verify_speaker.main, "--model", MODEL, *recordings)
    assert f"threshold {registered.default:.6f}" in verified.out
    assert "all" in invoke(inspect_engine.main, "info", "runs/0/engine.onnxruntime").out


def test_a_run_is_not_exported_or_registered(earlier: Path, invoke: Command) -> None:
    for run in ("runs/0", f"runs:/{RUN}"):
        exported = invoke(export_mask.main, run, earlier / "exported.onnx")
        assert exported.code == 2
        assert exported.err.startswith(
            f"error: {run}/model.onnx: not the graph of a run, or that of an earlier"
        )
        assert not (earlier / "exported.onnx").exists()
    registered = invoke(register_model.main, STORE, f"run={RUN}", "name=another")
    assert registered.code == 2
    assert registered.err.startswith(f"error: runs:/{RUN}/engine/result.json: {AGAIN}")


def test_runs_are_reported(earlier: Path, invoke: Command, tmp_path: Path) -> None:
    reported = invoke(
        show_report.main, STORE, "tracking.experiment=searched", f"output={tmp_path / 'report'}"
    )
    assert reported.code == 0, reported.err
    assert "embedding_linear" in reported.out
    assert (tmp_path / "report.html").is_file()


def test_a_study_is_read_by_optuna(earlier: Path) -> None:
    storage = JournalStorage(JournalFileBackend("studies.journal"))
    study = optuna.load_study(study_name="old", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2


def test_a_cache_is_listed(earlier: Path, invoke: Command) -> None:
    listed = invoke(manage_cache.main, "show", "--root", "cache")
    assert "embeddings" in listed.out and "ranges" in listed.out


def test_a_training_goes_on_from_its_state(
    earlier: Path, workspace: Workspace, invoke: Command, tmp_path: Path
) -> None:
    assert load_checkpoint(earlier / "small.safetensors").network.n_mels == 20
    for speaker in sorted(path for path in workspace.calibration.iterdir() if path.is_dir())[:3]:
        shutil.copytree(speaker, tmp_path / "speech" / speaker.name)
    shutil.copy("trained.state", tmp_path)
    sizes = {"n_mels": 20, "channels": 8, "aggregation_channels": 8, "attention_channels": 4}
    trained = invoke(
        train_network.main,
        *(f"model.architecture.{name}={size}" for name, size in sizes.items()),
        *("model.architecture.se_channels=4", "model.architecture.embedding_dim=8"),
        *("model.front_end.n_mels=20", "training_data.synthetic_share=0", "batch_size=4"),
        *(f"training_data.root={tmp_path / 'speech'}", f"validation.root={workspace.corpus}"),
        *(f"validation.trials={workspace.corpus / 'trials.txt'}", "training.num_steps=3"),
        *("training.validate_every=1", "training.warmup_steps=1", "training.margin_start_step=1"),
        *("training.margin_full_step=2", f"output={tmp_path / 'trained.safetensors'}"),
        *(f"tracking.uri={workspace.tracking_uri}", f"hydra.run.dir={tmp_path / 'run'}"),
    )
    assert trained.code == 0, trained.err
    assert "resuming from" in trained.err + trained.out
    assert (tmp_path / "trained.safetensors").is_file()


def _digests(folder: Path) -> dict[Path, str]:
    """Of each file but MLflow's database, which its reading may touch."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("mlflow.db")]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
