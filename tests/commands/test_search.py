"""``experiment=search`` as a user meets it: front, recommendation, resuming, dying, several at once."""

import csv
import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from markupsafe import escape
from mlflow.entities import Run
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from processes import Program, start_command

from speakerquant.commands import launch, show_report
from speakerquant.engine.cpu import describe_cpu
from speakerquant.files import sha256_of
from speakerquant.search.history import INTERRUPTED, REPEAT_OF, WITHDRAWN
from speakerquant.tracking.recorded_runs import children
from speakerquant.tracking.views import masks_address

from .conftest import Command, Workspace, development_list, results

pytestmark = pytest.mark.slow

SMALL_SPACE = [  # two of the seven units, four masks
    *(f"mask.{unit}=fp32" for unit in ("input_conv", "se_res2block1", "se_res2block2", "se_res2block3")),
    "mask.attentive_pooling=fp32",
]


def arguments(workspace: Workspace, name: str, *more: str) -> list[str]:
    return [
        "experiment=search_int8",
        *workspace.arguments(),
        f"data.development_trials={development_list(workspace)}",
        f"tracking.experiment={name}",
        f"hydra.sweeper.study_name={name}",
        # On so few speakers nothing is shown to lose less than anything.
        "front.delta_eer_high=null",
        "+hydra.sweeper.constraints.delta_eer=0.074",
        *SMALL_SPACE,
        *more,
    ]


def sweep_folder(folder: Path) -> Path:
    [front] = sorted(folder.glob("multirun/*/*/front.json"))[-1:]
    return front.parent


def front_of(folder: Path) -> dict:
    return dict(json.loads((sweep_folder(folder) / "front.json").read_text()))


def stored_trials(folder: Path, name: str) -> Sequence[FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(folder / "multirun/studies.journal")))
    return optuna.load_study(study_name=name, storage=storage).trials


def parent_and_children(workspace: Workspace, name: str) -> tuple[Run, list[Run]]:
    tracking = workspace.tracking_of(name)
    runs = tracking.client.search_runs([tracking.experiment_id])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return parent, children(tracking, parent.info.run_id)


def test_a_search_ends_with_the_front_and_a_mask_measured_on_the_test_list(
    workspace: Workspace, speakerquant: Command, invoke: Command, tmp_path: Path
) -> None:
    finished = speakerquant(*arguments(workspace, "whole", "engine=onnxruntime"))
    assert finished.code == 0, finished.err
    trials = stored_trials(tmp_path, "whole")
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4

    front = front_of(tmp_path)
    recommended = front["recommended"]
    allowed = [trial for trial in trials if trial.user_attrs["result"]["delta_eer"] <= 0.074]
    smallest = min(allowed, key=lambda trial: trial.user_attrs["result"]["engine_size_bytes"])
    assert recommended["trial"] == smallest.number
    assert recommended["result"]["trial_list"] == "development"
    assert recommended["final_result"]["trial_list"] == "test"
    assert recommended["final_result"]["mask"] == recommended["result"]["mask"]
    assert "on the development list: EER %" in finished.out
    assert "on the test list: EER %" in finished.out
    folder = recommended["final_result"]["folder"]
    assert f"in {folder}, MLflow run {recommended['final_result']['run_id']}\n" in finished.out
    assert sha256_of(Path(folder, "engine.onnxruntime")) == recommended["final_result"]["engine_sha256"]

    with (sweep_folder(tmp_path) / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [entry["trial"] for entry in front["front"]]
    assert (sweep_folder(tmp_path) / "front.png").read_bytes().startswith(b"\x89PNG")
    assert "paper's proposal" in (sweep_folder(tmp_path) / "front.html").read_text()

    parent, runs = parent_and_children(workspace, "whole")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["study"] == "whole"
    assert f"recorded as MLflow run {parent.info.run_id}\n" in finished.out
    assert [run.data.tags["trial"] for run in runs] == ["0", "1", "2", "3", "0"]
    assert runs[-1].data.tags["study"].startswith("whole-final-")
    assert [run.info.run_name.partition(":")[0] for run in runs[-2:]] == ["trial 3", "final"]
    assert runs[-1].info.run_id == recommended["final_result"]["run_id"]
    artifacts = workspace.tracking_of("whole").client.list_artifacts(parent.info.run_id)
    assert {"front.json", "front.csv", "front.md", "front.png", "front.html"} <= {
        file.path for file in artifacts
    }

    best = recommended["result"]
    assert parent.data.metrics["engine_size_bytes"] == best["engine_size_bytes"]
    assert parent.data.metrics["delta_eer_high"] == pytest.approx(best["delta_eer_high"])
    note = parent.data.tags["mlflow.note.content"]
    assert "| trial | quantized units |" in note
    assert f"]({masks_address(workspace.tracking_of('whole'), '', parent.info.run_id)})" in note

    # A report shows trials and final evaluation, which are on different lists, and says what was recommended.
    said = finished.out[finished.out.rindex("recommended: trial") :].splitlines()
    store = (f"tracking.uri={workspace.tracking_uri}", "tracking.experiment=whole")
    reported = invoke(show_report.main, *store)
    assert reported.code == 0, reported.err
    assert said == reported.out.splitlines()[-len(said) - 3 : -3], "before the files that were written"
    trials_table, final_table = reported.out.split(f"MLflow run {parent.info.run_id}")[1:]
    # A line for each mask but FP32's own.
    assert [text.count(": FP32's threshold") for text in (trials_table, final_table)] == [3, 1]
    assert "data.evaluate_on=test" in final_table
    text, page = (tmp_path / f"report.{suffix}" for suffix in ("md", "html"))
    assert "\n".join(said) in text.read_text()
    assert all(escape(line) in page.read_text() for line in said)

    # The printed command gives the same figures.
    again = speakerquant(*recommended["command"].split()[1:])
    assert again.code == 0, again.err
    [result] = results(tmp_path / "outputs")
    assert result["eer"] == recommended["final_result"]["eer"]
    assert result["mask"] == recommended["final_result"]["mask"]

    # The same search again finds nothing left to do, and overwrites nothing.
    folders = set(tmp_path.glob("multirun/*/*/*"))
    assert speakerquant(*arguments(workspace, "whole", "engine=onnxruntime")).code == 0
    assert len(stored_trials(tmp_path, "whole")) == 4
    assert folders < set(tmp_path.glob("multirun/*/*/*"))
    assert front_of(tmp_path)["recommended"] == recommended


def test_without_a_development_list_the_table_says_what_the_search_has_seen(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    few = ("engine=onnxruntime", "hydra.sweeper.n_trials=2")
    finished = speakerquant(*arguments(workspace, "seen", "data.development_trials=null", *few))
    assert finished.code == 0, finished.err
    assert "on the test list, which the search has seen: EER %" in finished.out
    assert "on the development list" not in finished.out
    assert front_of(tmp_path)["recommended"]["final_result"] is None


def test_a_time_may_be_an_objective_and_binds_the_study_to_its_machine(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    objective = "+hydra.sweeper.objectives.latency_ms_p50=minimize"
    finished = speakerquant(
        *arguments(workspace, "fast", objective, "hydra.sweeper.n_trials=2", "engine.latency_requests=3")
    )
    assert finished.code == 0, finished.err
    for trial in stored_trials(tmp_path, "fast"):
        assert trial.values[2] == trial.user_attrs["result"]["latency_ms_p50"] > 0
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "multirun/studies.journal")))
    study = optuna.load_study(study_name="fast", storage=storage)
    assert describe_cpu() in study.user_attrs["search"]["fingerprint"]["machine"]


@pytest.mark.cluster
def test_any_key_can_be_searched_with_workers_in_parallel(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    finished = speakerquant(
        *arguments(
            workspace,
            "parallel",
            "mask=all",
            "calibration=choice(max,percentile)",
            "mask.aggregation_conv=int8",
            "mask.embedding_linear=int8",
            "hydra/launcher=joblib",
            "hydra.launcher.n_jobs=2",
            "hydra.sweeper.n_jobs=2",
            "hydra/sweeper/sampler=random",
        )
    )
    assert finished.code == 0, finished.err
    trials = stored_trials(tmp_path, "parallel")
    assert sorted(trial.params["calibration"] for trial in trials) == ["max", "percentile"]
    assert finished.err.count("RandomSampler does not look at constraints") <= 1
    _, runs = parent_and_children(workspace, "parallel")
    assert sorted(run.data.tags["trial"] for run in runs) == ["0", "0", "1"]


def test_failed_trials_are_recorded_and_the_search_goes_on_as_far_as_allowed(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    broken = ["engine.min_fidelity=choice(0.5,1.1)", "hydra.sweeper.warm_start=false"]
    space = ["engine=onnxruntime", "mask.aggregation_conv=int8", "mask.embedding_linear=fp32", *broken]
    allowed = speakerquant(*arguments(workspace, "failing", *space), "hydra.sweeper.max_failure_rate=1.0")
    assert allowed.code == 0, allowed.err
    trials = [t for t in stored_trials(tmp_path, "failing") if REPEAT_OF not in t.user_attrs]
    assert sorted(trial.state.name for trial in trials) == ["COMPLETE", "FAIL"]
    assert "agrees with its simulation only to" in allowed.out
    refused = speakerquant(*arguments(workspace, "failing", *space, "hydra.sweeper.max_failure_rate=0.0"))
    assert refused.code == 2
    assert refused.err.startswith("error: 1 trials failed, more than hydra.sweeper.max_failure_rate=0")


def start(workspace: Workspace, folder: Path, name: str, *more: str) -> Program:
    return start_command(launch.evaluate_mask, *arguments(workspace, name, *more), folder=folder)


def wait_for_launch(search: Program) -> None:
    for line in search.output:
        if "Launching" in line:
            return
    raise AssertionError("the search ended before it launched a job")


def test_a_stopped_search_leaves_nothing_running(workspace: Workspace, tmp_path: Path) -> None:
    name = "stopped"
    search = start(workspace, tmp_path, name)
    for _ in range(2):
        wait_for_launch(search)
    while len(parent_and_children(workspace, name)[1]) < 2:  # the job has opened its run
        time.sleep(0.05)
    search.stop(signal.SIGTERM)
    code, printed = search.end()
    assert code == 143, printed
    trials = stored_trials(tmp_path, name)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.FAIL]
    assert trials[1].user_attrs[INTERRUPTED] == "the search was stopped"
    assert front_of(tmp_path)["trials"]["finished"] == 1
    parent, runs = parent_and_children(workspace, name)
    assert parent.info.status == runs[-1].info.status == "FAILED", printed
    assert "RUNNING" not in {run.info.status for run in runs}


def test_a_killed_search_completes_when_run_again(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    search = start(workspace, tmp_path, "killed")
    wait_for_launch(search)
    time.sleep(0.4)  # amid the trial
    search.stop(signal.SIGKILL)
    search.end()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("multirun/*/*/*/result.json")}
    last = speakerquant(*arguments(workspace, "killed"))
    assert last.code == 0, last.err
    assert {path: path.stat().st_mtime_ns for path in written} == written
    trials = stored_trials(tmp_path, "killed")
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert len(completed) == len({str(trial.params) for trial in completed}) == 4
    others = [trial for trial in trials if trial.state is not TrialState.COMPLETE]
    assert others, "no kill hit a trial"
    assert all(trial.state is TrialState.FAIL and INTERRUPTED in trial.user_attrs for trial in others)
    parent, runs = parent_and_children(workspace, "killed")
    assert parent.info.status == "FINISHED"
    assert "RUNNING" not in {run.info.status for run in runs}


def test_two_searches_at_once_share_the_work_and_one_parent_run(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    other = start(workspace, tmp_path, "shared", "engine=onnxruntime")
    wait_for_launch(other)
    finished = speakerquant(*arguments(workspace, "shared", "engine=onnxruntime"))
    code, printed = other.end()
    assert (finished.code, code) == (0, 0), (finished, printed)
    trials = stored_trials(tmp_path, "shared")
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert len(completed) == len({str(trial.params) for trial in completed}) == 4
    assert all(WITHDRAWN in trial.user_attrs for trial in trials if trial not in completed)
    parent, runs = parent_and_children(workspace, "shared")
    assert parent.info.status == "FINISHED"
    final = [run for run in runs if run.data.tags["study"].startswith("shared-final-")]
    assert len(final) == 1
    assert len(runs) == 5
