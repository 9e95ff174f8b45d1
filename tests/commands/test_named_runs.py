"""Every command that takes a run takes the same names of it."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from speakerquant.commands import export_mask, inspect_engine, register_model, verify_speaker

from .conftest import Command, Finished, Workspace, exit_code

pytestmark = pytest.mark.slow

Take = Callable[[object], Finished]


@pytest.fixture(scope="module")
def multirun(workspace: Workspace, finished_folder: Path) -> Path:
    """The folder of a multirun with two masks, of which the later is registered as ``models:/named@it``."""
    store = f"tracking.uri={workspace.tracking_uri}"
    registered = ("name=named", "alias=it")
    assert exit_code(register_model.main, store, f"run={finished_folder / '1'}", *registered) == 0
    return finished_folder


@pytest.fixture
def takers(
    workspace: Workspace, invoke: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Sequence[Take]:
    """The commands, each to be given a name of a run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workspace.tracking_uri)
    pair = sorted(workspace.corpus.rglob("*.wav"))[:2]
    return [
        lambda name: invoke(inspect_engine.main, "info", name),
        lambda name: invoke(verify_speaker.main, "--model", name, *pair),
        lambda name: invoke(export_mask.main, name, tmp_path / "exported.onnx"),
        lambda name: invoke(register_model.main, f"run={name}", "name=again"),
    ]


def test_a_run_has_the_same_names_for_all(
    workspace: Workspace, multirun: Path, takers: Sequence[Take], tmp_path: Path
) -> None:
    tracking, run = workspace.tracking_of("finished"), multirun / "1"
    [recorded] = tracking.client.search_runs([tracking.experiment_id], "params.mask = 'input_conv'")
    above = tmp_path / "above"
    shutil.copytree(run, above / "run")
    paths = [run, *(run / name for name in ("engine.openvino", "model.onnx", "result.json")), above]
    names = [*paths, recorded.info.run_id, f"runs:/{recorded.info.run_id}", "models:/named@it"]
    inform, verify, export, register = takers
    digest = json.loads((run / "result.json").read_text())["engine_sha256"]
    for name in names:
        assert digest in inform(name).out
    decisions = [verify(name).out.partition(",")[0] for name in (run, run / "model.onnx", names[-2])]
    assert len({*decisions}) == 1 and "score" in decisions[0]
    for take, given in ((export, (run / "engine.openvino", names[-1])), (register, (above, names[-1]))):
        for name in given:
            finished = take(name)
            assert finished.code == 0, finished.err


def test_what_is_no_run_of_one_mask_is_told_alike(
    workspace: Workspace, multirun: Path, takers: Sequence[Take], tmp_path: Path
) -> None:
    tracking = workspace.tracking_of("finished")
    parent = (multirun / ".mlflow_parent_run").read_text()
    last = tracking.client.search_runs([tracking.experiment_id], "params.mask = 'input_conv'")[0].info
    told = {
        "nowhere": "nowhere: no such file; give a run's folder or a file of it, its id in MLflow",
        multirun: f"{multirun}: the folder of 2 runs; give that of one: 1, 0",
        parent: f"run {parent} is a multirun or a search; give one of its 2 runs, such as {last.run_id}",
    }
    for take in takers:
        for name, said in told.items():
            finished = take(name)
            assert finished.code == 2
            [line] = [line for line in finished.err.splitlines() if line.startswith("error: ")]
            assert line.startswith(f"error: {said}")
    assert not (tmp_path / "exported.onnx").exists()
