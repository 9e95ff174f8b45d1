"""``speakerquant-export``: the mask of a run as a file for others."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_files import TimeFirst, write_onnx

from speakerquant.architectures.checkpoints import load_checkpoint
from speakerquant.commands import export_mask
from speakerquant.engine.backends import engine_builder
from speakerquant.measuring.check import fidelity

from .conftest import Command, Workspace

pytestmark = pytest.mark.slow


@pytest.fixture
def run(workspace: Workspace, speakerquant: Command, tmp_path: Path) -> Path:
    """The folder of a run that was measured with what sherpa-onnx computes."""
    arguments = [*workspace.arguments(), "tracking.experiment=export", "rounding=nearest", "engine=openvino"]
    finished = speakerquant(
        *arguments, "model/front_end=sherpa_onnx", "mask=all_int4", f"hydra.run.dir={tmp_path}/run"
    )
    assert finished.code == 0, finished.err
    return tmp_path / "run"


def test_a_run_is_exported_from_its_folder_and_from_mlflow(
    workspace: Workspace, run: Path, invoke: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workspace.tracking_uri)
    tracking = workspace.tracking_of("export")
    run_id = tracking.client.search_runs([tracking.experiment_id])[0].info.run_id
    files = []
    for number, name in enumerate((run, run / "model.onnx", f"runs:/{run_id}")):
        files.append(tmp_path / f"{number}.onnx")
        finished = invoke(export_mask.main, name, files[-1], "--format", "sherpa_onnx")
        assert finished.code == 0, finished.err
        size, interface, needs, agrees = finished.out.splitlines()
        assert size == f"{files[-1]}: {files[-1].stat().st_size / 1e6:.3f} MB"
        assert interface == "x [batch, time, 80] -> embedding [batch, 192]"
        assert needs.startswith("needs ONNX Runtime 1.19 or newer (opset 21); sherpa-onnx")
        assert agrees == "agrees with the mask's network: cosine 1.00000"
    assert len({file.read_bytes() for file in files}) == 1
    finished = invoke(export_mask.main, run, run / "model.onnx")
    assert finished.code == 2
    assert finished.err.startswith(f"error: {run / 'model.onnx'}: the run's own graph")
    assert invoke(export_mask.main, run, tmp_path / "again.onnx").code == 0
    (run / "result.json").unlink()
    finished = invoke(export_mask.main, run, tmp_path / "unfinished.onnx")
    assert (finished.code, finished.err.count("\n")) == (2, 1)
    assert f"{run}: has no result.json, as its run did not finish" in finished.err


def test_an_onnx_file_is_replaced_by_one_that_is_asked_alike(
    workspace: Workspace, speakerquant: Command, invoke: Command, tmp_path: Path
) -> None:
    original, replacement = tmp_path / "original.onnx", tmp_path / "replacement.onnx"
    network = TimeFirst(load_checkpoint(workspace.checkpoint).network)
    write_onnx(network, original, (2, 100, 80), ("fbank", "voice"))
    model = onnx.load(original)
    onnx.helper.set_model_props(model, {"author": "somebody"})
    onnx.save(model, original)
    arguments = [*workspace.arguments(), f"model.checkpoint={original}", f"hydra.run.dir={tmp_path}/run"]
    described = ["model=onnx", "model/front_end=log_mel", "mask=all_int4", "rounding=nearest"]
    finished = speakerquant(*arguments, *described)
    assert finished.code == 0, finished.err
    original.unlink()
    finished = invoke(export_mask.main, tmp_path / "run", replacement)
    assert finished.code == 0, finished.err
    features = np.random.default_rng(0).normal(size=(2, 90, 80)).astype(np.float32)
    [embeddings] = onnxruntime.InferenceSession(replacement).run(["voice"], {"fbank": features})
    with engine_builder("openvino").load(tmp_path / "run" / "engine.openvino") as engine:
        measured = engine.embed(np.ascontiguousarray(features.swapaxes(1, 2)))
    assert fidelity(embeddings, measured) > 0.9999
    told = {entry.key: entry.value for entry in onnx.load(replacement).metadata_props}
    assert told["author"] == "somebody"
    assert json.loads(told["front_end"])["kind"] == "log_mel"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("nowhere", "nowhere: no such file; give a run's folder"),
        (".", "model.onnx: no such file"),
        ("runs:/0", "run"),
    ],
)
def test_what_is_no_run_is_one_line(
    workspace: Workspace,
    invoke: Command,
    name: str,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workspace.tracking_uri)
    finished = invoke(export_mask.main, name, "drop_in.onnx")
    assert finished.code == 2
    [line] = finished.err.splitlines()
    assert line.startswith("error: ") and what in line
    assert [*tmp_path.iterdir()] == []
