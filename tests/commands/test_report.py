"""``speakerquant-report`` and tab completion."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from browser import BROWSER, browse
from mlflow import MlflowClient
from sqlalchemy.engine import make_url

from speakerquant.commands import evaluate_mask, show_report
from speakerquant.corpus.synthetic import TRIALS_FILE
from speakerquant.measuring.result import RANGES_FILE
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.tracking.client import find_experiment
from speakerquant.tracking.recorded_runs import latest_multirun
from speakerquant.tracking.runs import TrackedRun

from .conftest import Command, Workspace, development_list, results

pytestmark = pytest.mark.slow


def test_a_multirun_is_reported_and_renders_on_desktop_and_phone(
    workspace: Workspace,
    finished_folder: Path,
    finished_multirun: str,
    invoke: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    finished = invoke(show_report.main, f"tracking.uri={workspace.tracking_uri}", finished_multirun)
    assert finished.code == 0, finished.err
    assert "input_conv" in finished.out
    assert "report.png" in finished.out
    assert (tmp_path / "report.png").stat().st_size > 10_000
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    for result in results(finished_folder):
        loss = [f"{result[name]:+.3f}" for name in ("delta_eer", "delta_eer_low", "delta_eer_high")]
        cells = [
            "input_conv" if result["mask"]["input_conv"] == "int8" else "none",
            f"{result['eer']:.3f}",
            f"{loss[0]} [{loss[1]}, {loss[2]}]",
            f"{result['engine_size_bytes'] / 1e6:.3f}",
            f"{result['size_ratio']:.3f}",
            f"{result['latency_ms_p50']:.1f}",
        ]
        assert "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) in page
        assert f"| {' | '.join(cells)} |" in text
    ranges = CalibrationTable.load(next(finished_folder.rglob("calibration.safetensors")))
    for layer, amax in ranges.input_ranges.items():
        assert f"| {layer} | {amax:.4g} | {ranges.weight_ranges[layer].min():.4g} |" in text
    assert "speakerquant -m" not in page and "mask=input_conv</code>" in page, "the command"
    assert "Detection error trade-off" in page
    if BROWSER is None:
        pytest.skip("there is no Chromium to render the page in")
    for width in (1400, 390):
        dom, log = browse((tmp_path / "report.html").as_uri(), width=width)
        assert dom.count('class="main-svg"') >= 4, "pictures are drawn"
        assert "CONSOLE" not in log


def test_a_report_may_be_called_anything(
    workspace: Workspace,
    finished_multirun: str,
    invoke: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    store = (f"tracking.uri={workspace.tracking_uri}", finished_multirun)
    for output in ("ours.v1", "ours.html"):
        assert invoke(show_report.main, *store, f"output={output}").code == 0
    assert sorted(path.stem for path in tmp_path.glob("*.html")) == ["ours", "ours.v1"]
    assert (tmp_path / "ours.v1.png").exists() and (tmp_path / "ours.v1.md").exists()


def test_a_multirun_is_reported_while_runs_of_it_start(
    workspace: Workspace,
    finished_multirun: str,
    invoke: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(str(make_url(workspace.tracking_uri).database), "mlflow.db")
    tracking = find_experiment("sqlite:///mlflow.db", finished_multirun.partition("=")[2])
    parent = latest_multirun(tracking)
    search = MlflowClient.search_runs

    def one_starts_after(client: MlflowClient, *arguments: Any, **options: Any) -> Any:
        found = search(client, *arguments, **options)
        TrackedRun.start(tracking, "another", parent)
        return found

    monkeypatch.setattr(MlflowClient, "search_runs", one_starts_after)
    finished = invoke(show_report.main, "tracking.uri=sqlite:///mlflow.db", finished_multirun)
    assert finished.code == 0, finished.err
    # The latest multirun, its runs, and those of it that were deleted are looked for once.
    assert sum(run.info.status == "RUNNING" for run in search(tracking.client, [tracking.experiment_id])) == 3


def test_what_is_no_multirun_and_no_name_of_files_is_one_line(
    workspace: Workspace, finished_multirun: str, invoke: Command, tmp_path: Path
) -> None:
    tracking = workspace.tracking_of("finished")
    run = next(iter(tracking.client.search_runs([tracking.experiment_id])))
    parent = run.data.tags["mlflow.parentRunId"]
    store = (f"tracking.uri={workspace.tracking_uri}", finished_multirun)
    elsewhere = TrackedRun.start(workspace.tracking_of("elsewhere"), "multirun").run_id
    for given, said in (
        (run.info.run_id, f"a run of the multirun {parent}; give MLflow's id of a multirun"),
        (str(tmp_path), "no such run in this MLflow store"),
        ("0" * 32, "no such run in this MLflow store"),
        ("a'b", "no such run in this MLflow store"),
        (elsewhere, "a run of another MLflow experiment; set tracking.experiment=elsewhere"),
    ):
        finished = invoke(show_report.main, *store, f'run="{given}"')
        assert finished.code == 2
        [line] = finished.err.splitlines()
        assert line.startswith(f"error: run={given}: {said}")
    for setting, said in (
        *((f"output={name}", "names no file; give the name") for name in ("", ".", "..", f"{tmp_path}/")),
        ("run=[]", "names no multirun; give MLflow's ids"),
    ):
        finished = invoke(show_report.main, *store, setting)
        assert (finished.code, finished.out) == (2, "")
        [line] = finished.err.splitlines()
        assert line.startswith(f"error: {setting}: {said}")


def test_a_multirun_over_lists_and_calibrations_tells_its_runs_apart_everywhere(
    workspace: Workspace, speakerquant: Command, tmp_path: Path, invoke: Command
) -> None:
    lists = [workspace.corpus / TRIALS_FILE, development_list(workspace)]
    finished = speakerquant(
        "-m",
        *(argument for argument in workspace.arguments() if not argument.startswith("data.trials")),
        f"data.trials={','.join(map(str, lists))}",
        "mask=all",
        "calibration=max,mse",
        "engine=onnxruntime",
        "engine.latency_requests=0",
        "tracking.experiment=apart",
    )
    assert finished.code == 0, finished.err
    assert sum("│ all · calibration=mse" in line for line in finished.out.splitlines()) == 2
    tracking = workspace.tracking_of("apart")
    names = {
        f"all · data.trials={path.name} · calibration={method}" for path in lists for method in ("max", "mse")
    }
    runs = {run.info.run_name: run for run in tracking.client.search_runs([tracking.experiment_id])}
    assert names < {*runs}
    params = runs[f"all · data.trials={lists[1].name} · calibration=mse"].data.params
    assert params["calibration"] == params["calibration.method"] == "mse"
    assert (params["mask"], params["data.evaluate_on"]) == ("all", "test")

    reported = invoke(show_report.main, f"tracking.uri={workspace.tracking_uri}", "tracking.experiment=apart")
    assert reported.code == 0, reported.err
    text = (tmp_path / "report.md").read_text()
    tables = [CalibrationTable.load(path) for path in tmp_path.rglob(RANGES_FILE)]
    for path in lists:
        assert f"## Runs · data.trials={path.name}" in text
    for method in ("max", "mse"):
        assert text.count(f"## Ranges of the layers · calibration={method}") == 1
        [amax] = {table.input_ranges["input_conv"] for table in tables if table.method == method}
        assert f"| input_conv | {amax:.4g} |" in text
    for name in names:
        [command] = [line for line in text.splitlines() if line.startswith(f"- {name}: ")]
        assert f" {name.split(' · ')[2]} " in command


def test_tab_completion_offers_masks(invoke: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "speakerquant mask=se_res2block1"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    completed = invoke(evaluate_mask.main, "-sc", "query=bash")
    assert completed.code == 0, completed.err
    precisions = ("", "_fp16", "_int2", "_int4", "_int4_dynamic", "_int8_dynamic", "_int8_fitted")
    assert sorted(completed.out.split()) == [f"mask=se_res2block1{precision}" for precision in precisions]
