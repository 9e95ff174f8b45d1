"""A run into a folder that another run has used: nothing of one is taken for a part of the other."""

import shutil
from pathlib import Path

import onnx
import pytest

from speakerquant.commands import verify_speaker

from .conftest import QUICK, Command, Workspace, results

pytestmark = pytest.mark.slow


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_a_rejected_engine_does_not_lie_beside_the_scores_of_another(
    workspace: Workspace, speakerquant: Command, invoke: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    command = [*workspace.arguments(), f"hydra.run.dir={folder}"]
    pair = sorted(workspace.corpus.rglob("*.wav"))[:2]
    assert speakerquant(*command, "mask=none").code == 0
    assert invoke(verify_speaker.main, "--model", folder, *pair).code == 0
    assert speakerquant(*command, "mask=nonsense").code == 2
    assert invoke(verify_speaker.main, "--model", folder, *pair).code == 0, (
        "refused before anything was built"
    )

    assert speakerquant(*command, "mask=all", "engine.min_fidelity=1.1").code == 2
    assert files_of(folder).isdisjoint({"result.json", "scores.npy", "labels.npy"})
    verified = invoke(verify_speaker.main, "--model", folder, *pair)
    assert verified.code == 2
    assert "result.json is not there" in verified.err

    assert speakerquant(*command, "mask=all", "engine=onnxruntime").code == 0
    [result] = results(folder)
    assert set(result["mask"].values()) == {"int8"}
    assert {name for name in files_of(folder) if name.startswith("engine.")} == {
        "engine.onnxruntime",
        "engine.onnxruntime.json",
    }


def test_files_of_others_are_neither_replaced_nor_removed(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    command = [*workspace.arguments(), "mask=none", "engine=onnxruntime", f"hydra.run.dir={tmp_path}"]
    (tmp_path / "engine.py").write_text("import this")
    (tmp_path / "model.onnx").write_bytes(onnx.helper.make_model(onnx.GraphProto()).SerializeToString())
    refused = speakerquant(*command)
    assert refused.code == 2
    assert f"{tmp_path / 'model.onnx'}: would be replaced, and is no file of a run" in refused.err
    (tmp_path / "model.onnx").unlink()
    for _ in range(2):
        assert speakerquant(*command, "hydra.output_subdir=null").code == 0
    assert {"engine.py", "engine.onnxruntime", "model.onnx"} <= files_of(tmp_path)


def test_an_engine_is_known_by_its_digest(
    workspace: Workspace, speakerquant: Command, invoke: Command, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, mask in ((one, "none"), (other, "all")):
        command = [*workspace.arguments(), *QUICK, f"mask={mask}", f"hydra.run.dir={folder}"]
        assert speakerquant(*command).code == 0
    for name in ("engine.onnxruntime", "engine.onnxruntime.json"):
        shutil.copy(other / name, one / name)
    pair = sorted(workspace.corpus.rglob("*.wav"))[:2]
    verified = invoke(verify_speaker.main, "--model", one, *pair)
    assert verified.code == 2
    assert f"{one / 'result.json'}: of another engine than engine.onnxruntime" in verified.err
    assert invoke(verify_speaker.main, "--model", one, "--threshold", "0.5", *pair).code == 0
