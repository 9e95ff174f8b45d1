"""One mask in, one result out; several masks, one parent run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import console_script
from hydra import compose, initialize_config_dir
from mlflow.entities import Run
from processes import start_command

from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn
from speakerquant.commands import launch
from speakerquant.commands.console_script import config_folder
from speakerquant.commands.multirun import _alone_in
from speakerquant.configuration.composing import compose_once
from speakerquant.configuration.opening import open_mask
from speakerquant.configuration.schema import register_schemas
from speakerquant.corpus.recordings import find_recordings
from speakerquant.corpus.synthetic import TRIALS_FILE
from speakerquant.corpus.trials import read_trials
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.report.mask_words import mask_name
from speakerquant.statistics.error_rates import eer
from speakerquant.tracking.runs import JOBS_TAG, PARENT_FILE, TrackedRun

from .conftest import QUICK, Command, Workspace, results

pytestmark = pytest.mark.slow

RESULT_KEYS = {
    "draws",
    "embeddings",
    "schema_version",
    "mask",
    *(
        number
        for rate in ("eer", "min_dcf")
        for number in (
            *(rate, f"{rate}_low", f"{rate}_high", f"baseline_{rate}"),
            *(f"delta_{rate}", f"delta_{rate}_low", f"delta_{rate}_high", f"delta_{rate}_p"),
        )
    ),
    "published",
    "unreached",
    "unreached_share",
    "widened",
    "swap",
    "thresholds",
    "thresholds_from",
    "score_calibration",
    "groups",
    "worst_group",
    "scoring",
    "tied_with_baseline",
    "engine_size_bytes",
    "size_ratio",
    "trial_list",
    "num_trials",
    "num_recordings",
    "engine",
    "engine_sha256",
    "calibration_recordings",
    "calibration_seconds",
    "executed",
    "scores_from",
    "weight_bits",
    "fidelity",
    "latency_ms_p50",
    "latency_ms_p95",
    "real_time_factor",
    "seconds",
}


def runs_of(workspace: Workspace, experiment: str = "speakerquant") -> list[Run]:
    tracking = workspace.tracking_of(experiment)
    return list(tracking.client.search_runs([tracking.experiment_id]))


def test_a_run_leaves_its_result_its_files_and_its_record(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    finished = speakerquant(*workspace.arguments(), "mask=none", "mask.embedding_linear=int8")
    assert finished.code == 0, finished.err
    [result] = results(tmp_path)
    assert set(result) == RESULT_KEYS
    assert [unit for unit, precision in result["mask"].items() if precision == "int8"] == ["embedding_linear"]
    assert result["num_trials"] == len(read_trials(workspace.corpus / TRIALS_FILE))
    assert result["num_recordings"] == 16
    assert result["delta_eer"] == pytest.approx(result["eer"] - result["baseline_eer"])
    assert result["eer_low"] <= result["eer"] <= result["eer_high"]
    assert result["tied_with_baseline"] is (result["delta_eer_low"] <= 0 <= result["delta_eer_high"])
    assert 0.5 < result["size_ratio"] < 1.0
    assert result["fidelity"] >= 0.999
    assert 0 < result["latency_ms_p50"] <= result["latency_ms_p95"]
    assert 0 < result["real_time_factor"] < 1

    [folder] = [path.parent for path in tmp_path.rglob("result.json")]
    assert (folder / "engine.openvino").stat().st_size == result["engine_size_bytes"]
    labels = read_trials(workspace.corpus / TRIALS_FILE).labels
    assert eer(np.load(folder / "scores.npy"), labels) == pytest.approx(result["eer"], abs=1e-3)
    assert len(CalibrationTable.load(folder / "calibration.safetensors").input_ranges) == 20

    record = runs_of(workspace)[0]
    assert record.info.status == "FINISHED"
    assert record.data.params["mask.embedding_linear"] == "int8"
    assert record.data.params["calibration.method"] == "percentile"
    assert {"digest.checkpoint", "digest.trials"} <= set(record.data.params)
    for name in ("eer", "delta_eer", "engine_size_bytes", "fidelity"):
        assert record.data.metrics[name] == pytest.approx(result[name])
    assert result["published"]["label"] == record.data.tags["published.label"] == "paper"
    assert result["published"]["eer"] == record.data.metrics["published.eer"] == 1.665
    assert record.data.metrics["seconds.embedding"] == pytest.approx(result["seconds"]["embedding"])
    artifacts = {item.path for item in workspace.tracking.client.list_artifacts(record.info.run_id)}
    assert {
        "engine.openvino",
        "engine.openvino.json",
        "model.onnx",
        "calibration.safetensors",
        "scores.npy",
        "config.yaml",
    } <= artifacts


def test_the_same_command_again_measures_the_same_and_computes_no_feature_or_range_anew(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    def cached() -> dict[Path, int]:
        kinds = ("features", "ranges", "baselines")
        return {p: p.stat().st_ino for kind in kinds for p in (workspace.cache / kind).rglob("*")}

    settings = [*workspace.arguments(), *QUICK]
    speakerquant(*settings, "mask=all")
    before = cached()
    speakerquant(*settings, "mask=all")
    speakerquant(*settings, "mask=paper")
    assert cached() == before
    first, second, _ = sorted(results(tmp_path), key=lambda result: result["mask"]["se_res2block2"] == "fp32")
    assert first["eer"] == second["eer"]
    assert first["min_dcf"] == second["min_dcf"]


def test_a_killed_run_goes_on_where_it_was(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    command = [*workspace.arguments(), *QUICK, f"cache.root={tmp_path / 'cache'}", "mask=all"]
    speakerquant(*command)
    entries = sorted((tmp_path / "cache" / "embeddings").glob("[!.]*"))
    contents = [entry.read_bytes() for entry in entries]
    for entry, content in zip(entries, contents, strict=True):  # as after a kill amid the recordings
        unfinished = entry.with_name(f".{entry.name}.killed") / entry.name
        unfinished.parent.mkdir()
        unfinished.write_bytes(content[: len(content) // 2])
        entry.unlink()
    speakerquant(*command)
    [entry] = (tmp_path / "cache" / "embeddings").glob("[!.]*")
    before = contents[entries.index(entry)]
    # The seconds that each took are in it: nothing of it was done again.
    assert entry.read_bytes()[: len(before) // 2] == before[: len(before) // 2]
    assert entry.stat().st_size == len(before)
    first, second = results(tmp_path)
    assert first["eer"] == second["eer"]


def test_the_baseline_is_the_fp32_mask_and_its_result_json_without_surprises(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    speakerquant(*workspace.arguments(), "mask=none")
    [result] = results(tmp_path)
    assert result["delta_eer"] == 0.0
    assert result["size_ratio"] == 1.0
    assert "NaN" not in next(tmp_path.rglob("result.json")).read_text()
    stages = {"features", "calibration", "export", "build", "embedding", "scoring"}
    assert stages <= set(result["seconds"])


def test_a_multirun_is_one_parent_with_its_masks_as_children(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    finished = speakerquant("-m", *workspace.arguments(), *QUICK, "mask=none,all")
    assert finished.code == 0, finished.err
    assert len(results(tmp_path)) == 2
    runs = runs_of(workspace)
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags and not run.data.params][:1]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    assert f"\nrecorded as MLflow run {parent.info.run_id}\n" in finished.out
    assert {"63.571"} <= set(finished.out.split())  # the paper's FP32 size beside ours
    assert list(tmp_path.rglob("size_vs_eer.png"))


def test_relative_paths_mean_the_same_when_jobs_change_the_folder(
    workspace: Workspace, speakerquant: Command, tmp_path: Path, new_store: Callable[[Path], str]
) -> None:
    new_store(tmp_path / "runs")
    (tmp_path / "speech").symlink_to(workspace.corpus)
    finished = speakerquant(
        *("-m", *workspace.arguments(), *QUICK, "mask=none,all", "hydra.job.chdir=true"),
        *("data.root=speech", f"data.trials=speech/{TRIALS_FILE}", "tracking.uri=sqlite:///runs/mlflow.db"),
    )
    assert finished.code == 0, finished.err
    assert len(results(tmp_path / "multirun")) == 2
    assert [*tmp_path.rglob("mlflow.db")] == [tmp_path / "runs" / "mlflow.db"]
    assert {path.name for path in tmp_path.iterdir()} == {"speech", "runs", "multirun"}


def test_a_failed_job_fails_the_parent_and_stays_in_the_table(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    finished = speakerquant("-m", *workspace.arguments(), *QUICK, "mask=none", "mask.input_conv=int7,int8")
    assert finished.code == 2
    assert len(results(tmp_path)) == 1
    assert "failed" in finished.out
    assert "unknown precision 'int7'" in finished.out
    runs = runs_of(workspace)
    parent = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags and not run.data.params)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert parent.info.status == "FAILED"
    assert sorted(run.info.status for run in children) == ["FAILED", "FINISHED"]
    assert all(run.info.status != "RUNNING" for run in runs)


def test_a_multirun_is_called_by_what_it_sweeps(workspace: Workspace, speakerquant: Command) -> None:
    lists = "data.evaluate_on=test,development"
    finished = speakerquant(
        *("-m", "experiment=null", *workspace.arguments(), lists, "engine=openvino,onnxruntime"),
        "+mask.input_conv=int7",
    )
    assert finished.code == 2
    parent = next(run for run in runs_of(workspace) if "mlflow.parentRunId" not in run.data.tags)
    assert parent.info.run_name == "multirun · folder test,development · openvino,onnxruntime"


def test_an_engine_that_does_not_compute_its_mask_is_no_result(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    finished = speakerquant(*workspace.arguments(), *QUICK, "mask=all", "engine.min_fidelity=1.1")
    assert finished.code == 2
    assert "min_fidelity" in finished.err
    assert "input_conv=int8" in finished.err
    assert results(tmp_path) == []
    record = runs_of(workspace)[0]
    assert record.info.status == "FAILED"
    assert "min_fidelity" in record.data.tags["failure"]


def composed(*overrides: str):
    register_schemas()
    compose_once()
    with initialize_config_dir(config_folder(), version_base="1.3"):
        return compose("run", list(overrides), return_hydra_config=True)


def test_a_crashing_builder_fails_its_own_run_only(
    workspace: Workspace, speakerquant: Command, tmp_path: Path, tensorrt_stand_in: Callable[..., str]
) -> None:
    python = tensorrt_stand_in("--on", "int8=crash")
    settings = ["engine=tensorrt", f"engine.python={python}"]
    finished = speakerquant("-m", *workspace.arguments(), *settings, "mask=embedding_linear,none")
    [result] = results(tmp_path)
    assert result["engine"] == "tensorrt" and result["size_ratio"] == 1.0
    assert finished.code == 2
    assert "its process was ended by SIGSEGV (the driver has gone) during build" in finished.out


def test_onnx_runtime_is_an_engine_like_the_others(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    finished = speakerquant(*workspace.arguments(), "engine=onnxruntime", "mask=all")
    assert finished.code == 0, finished.err
    [result] = results(tmp_path)
    assert (result["engine"], result["weight_bits"]) == ("onnxruntime", 8)
    assert result["size_ratio"] < 0.4


def test_a_stopped_job_ends_although_a_library_makes_an_error_of_it(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import signal, time, hydra\n"
        "from speakerquant.commands.console_script import hydra_job, run_command\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run below nohup\n"
        "@hydra.main(config_path=None, version_base='1.3')\n"
        "def application(config):\n"
        "    with hydra_job():\n"
        "        print('running', flush=True)\n"
        "        try:\n"
        "            time.sleep(60)\n"
        "        except BaseException:\n"
        "            raise RuntimeError('could not determine the shape') from None\n"
        "run_command(application)\n"
    )
    for stop, multirun in ((signal.SIGTERM, []), (signal.SIGHUP, ["-m"])):
        command = [sys.executable, program, *multirun]
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            while process.stdout.readline() != b"running\n":
                assert process.poll() is None
            process.send_signal(stop)
            assert process.wait(timeout=30) == 128 + stop


def test_a_folder_in_which_a_multirun_is_at_work_is_not_given_to_another(
    workspace: Workspace, speakerquant: Command, finished_folder: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_folder.rglob("*") if path.is_file()}
    with _alone_in(finished_folder):
        refused = speakerquant(
            "-m", *workspace.arguments(), "mask=none", f"hydra.sweep.dir={finished_folder}"
        )
    assert refused.code == 2
    assert f"error: hydra.sweep.dir={finished_folder}: another multirun is at work there" in refused.err
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_what_a_killed_multirun_left_open_is_closed_by_the_next_in_its_folder(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    tracking = workspace.tracking_of("speakerquant")
    killed = TrackedRun.start(tracking, "killed", tags={JOBS_TAG: "2"})
    job = TrackedRun.start(tracking, "job", killed.run_id)
    (tmp_path / PARENT_FILE).write_text(killed.run_id)
    speakerquant("-m", *workspace.arguments(), "mask.input_conv=int7", f"hydra.sweep.dir={tmp_path}")
    states = {run.info.run_id: run.info.status for run in runs_of(workspace)}
    assert states[killed.run_id] == states[job.run_id] == "FAILED"
    assert (tmp_path / PARENT_FILE).read_text() != killed.run_id


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_weights_of_few_bits_are_rounded_as_configured(
    workspace: Workspace, speakerquant: Command, tmp_path: Path, engine: str
) -> None:
    finished = speakerquant(
        "-m",
        *workspace.arguments(),
        f"engine={engine}",
        "mask=none",
        "mask.aggregation_conv=int2",
        "rounding=gptq,nearest",
        f"tracking.experiment=few_bits_{engine}",
    )
    assert finished.code == 0, finished.err
    gptq, nearest = results(tmp_path)
    for result in (gptq, nearest):
        assert result["mask"]["aggregation_conv"] == "int2"
        assert result["fidelity"] >= 0.999
        assert result["size_ratio"] < 1
    graphs = [path.read_bytes() for path in tmp_path.rglob("model.onnx")]
    assert len(graphs) == 2 and graphs[0] != graphs[1]


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed")
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU, which may run the engine")
def test_an_engine_that_cannot_run_here_is_said_to_be_built_only(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    finished = speakerquant(
        "-m",
        *workspace.arguments(),
        "engine=tensorrt_rtx",
        "engine.compute_capability=8.6",
        "mask=none,all",
        "tracking.experiment=rtx",
    )
    assert finished.code == 0, finished.err
    for result in results(tmp_path):
        assert (result["engine"], result["executed"]) == ("tensorrt_rtx", False)
        assert result["scores_from"] == "onnxruntime"
        assert result["fidelity"] is result["latency_ms_p50"] is result["real_time_factor"] is None
    assert "engines built, not run: error rates by onnxruntime" in finished.out
    [_, *runs] = sorted(runs_of(workspace, "rtx"), key=lambda run: run.info.start_time)
    assert len(runs) == 2
    for run in runs:
        assert run.data.metrics["executed"] == 0 and "fidelity" not in run.data.metrics
        assert run.data.params["scores_from"] == "onnxruntime"


def test_a_run_says_whether_the_mask_can_be_swapped_in(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    speakers = sorted({path.parts[len(workspace.corpus.parts)] for path in workspace.corpus.rglob("*.wav")})
    conditions = tmp_path / "speakers.tsv"
    conditions.write_text(
        "speaker\tsex\n" + "".join(f"{name}\t{'fm'[i % 2]}\n" for i, name in enumerate(speakers))
    )
    development = [
        f"data.development_trials={workspace.corpus / TRIALS_FILE}",
        f"data.development_root={workspace.corpus}",
        f"data.conditions={conditions}",
        "scoring.false_accepts=[12.5]",
    ]
    finished = speakerquant(*workspace.arguments(), *QUICK, *development, "mask=embedding_linear")
    assert finished.code == 0, finished.err
    assert "FP32's threshold " in finished.out and "FP32's voiceprints " in finished.out
    assert "groups left out, such as sex f: " in finished.out, "too few trials"
    assert "16 of 16 recordings of the development list are in the trial list, too" in finished.out
    [result] = results(tmp_path)
    assert result["thresholds_from"] == "development"
    assert list(result["thresholds"]) == ["eer", "far_12.5"]
    recorded = runs_of(workspace)[0].data.metrics
    for name in ("frr_at_eer", "delta_far_at_far_12.5_high", "voiceprints_eer", "cllr", "min_cllr"):
        assert recorded[f"swap.{name}"] == pytest.approx(result["swap"][name])


def test_the_protocol_is_recorded_and_the_baseline_is_of_the_same(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    protocol = [
        *QUICK,
        "scoring=as_norm",
        f"scoring.cohort_root={workspace.calibration}",
        "scoring.top_n=3",
        "scoring.p_targets=[0.01,0.05]",
    ]
    finished = speakerquant("-m", *workspace.arguments(), *protocol, "mask=none,embedding_linear")
    assert finished.code == 0, finished.err
    baseline, other = sorted(results(tmp_path), key=lambda result: -result["size_ratio"])
    assert baseline["scoring"] == other["scoring"] == "as_norm"
    assert other["baseline_eer"] == baseline["eer"]
    recorded = runs_of(workspace)[0].data.metrics
    for number in ("min_dcf_0.05", "min_dcf_0.05_high", "delta_min_dcf_0.05", "delta_min_dcf_0.05_low"):
        assert isinstance(other[number], float)
        assert number in recorded
    assert not [name for name in other if "min_dcf_0.01" in name]
    assert runs_of(workspace)[0].data.params["scoring.top_n"] == "3"
    speakerquant(*workspace.arguments(), *QUICK, "mask=none", "hydra.run.dir=plain")
    [plain] = results(tmp_path / "plain")
    assert plain["scoring"] == "none"
    assert plain["min_dcf"] != baseline["min_dcf"]


@pytest.mark.parametrize(
    ("name", "file"), [("o", "veri_test2"), ("e", "list_test_all2"), ("h", "list_test_hard2")]
)
def test_voxcelebs_lists_are_the_official_ones_as_they_are(name: str, file: str) -> None:
    data = composed(f"data=voxceleb1_{name}", "data.root=/corpora/voxceleb1/wav").data
    assert data.trials == f"https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/{file}.txt"
    assert data.keep_repeated_trials


def test_calibration_may_be_on_a_list(workspace: Workspace, speakerquant: Command, tmp_path: Path) -> None:
    names = find_recordings(workspace.calibration)[:2]
    (tmp_path / "list.txt").write_text("\n".join(names))
    own = ["calibration.num_recordings=50", f"data.calibration_list={tmp_path / 'list.txt'}"]
    settings = [*workspace.arguments(), *QUICK, *own]
    finished = speakerquant(*settings, "mask=embedding_linear")
    assert finished.code == 0, finished.err
    (tmp_path / "list.txt").write_text("nobody/1.wav")
    finished = speakerquant(*settings)
    assert finished.code == 2 and "list.txt: recording" in finished.err


def test_a_group_choice_and_a_unit_combine() -> None:
    network = EcapaTdnn(EcapaTdnnConfig(channels=8))
    mask = open_mask(composed("mask=paper", "mask.se_res2block2=int8"), network).names
    assert mask["se_res2block2"] == "int8"
    assert mask["se_res2block3"] == "fp32"
    assert mask["input_conv"] == "int8"


@pytest.mark.parametrize(
    "entries",
    [
        "defaults: [paper, _self_]",
        "{defaults: [none, _self_], se_res2block1: int8, input_conv: int8}",
        "{defaults: [none, _self_], se_res2block1: int8, se_res2block1.conv_in: int4, input_conv: int8}",
    ],
)
def test_a_single_layer_is_set_beside_the_rest_of_its_block(entries: str, tmp_path: Path) -> None:
    (tmp_path / "mask").mkdir()
    (tmp_path / "mask" / "mine.yaml").write_text(entries)
    network = EcapaTdnn(EcapaTdnnConfig(channels=8))
    overrides = ["units=layer", "mask=mine", "mask.se_res2block1.conv_in=fp32"]
    mask = open_mask(composed(f"hydra.searchpath=[file://{tmp_path}]", *overrides), network).names
    assert mask["se_res2block1.conv_in"] == "fp32"
    assert mask["se_res2block1.conv_out"] == mask["input_conv"] == "int8"
    assert mask["se_res2block2.conv_in"] == "fp32"


@pytest.mark.parametrize(("experiment", "count"), [("per_unit", 8), ("paper", 2), ("voxceleb", 9)])
def test_experiments_sweep_the_papers_tables(experiment: str, count: int) -> None:
    config = composed(f"experiment={experiment}")
    assert config.hydra.mode.name == "MULTIRUN"
    masks = config.hydra.sweeper.params.mask.split(",")
    assert len(masks) == len(set(masks)) == count
    assert masks[0] == "none"


def test_experiments_sweep_single_layers_too() -> None:
    masks = composed("experiment=ladder", "units=layer").hydra.sweeper.params.mask.split(",")
    assert len(masks) == 1 + 3 * (1 + 38)
    assert "se_res2block1.conv_in_int4" in masks


def test_a_mask_of_ones_own_is_a_file(workspace: Workspace, speakerquant: Command, tmp_path: Path) -> None:
    (tmp_path / "conf/mask").mkdir(parents=True)
    (tmp_path / "conf/mask/mine.yaml").write_text(
        "defaults: [paper, _self_]\n'se_*[23]': int4\nembedding_linear: fp32\n"
    )
    own = ["--config-dir", str(tmp_path / "conf"), "mask=mine", "mask.input_conv=fp32"]
    finished = speakerquant(*own, *workspace.arguments(), "engine=onnxruntime")
    assert finished.code == 0, finished.err
    [result] = results(tmp_path)
    assert " ".join(result["mask"].values()) == "fp32 int8 int4 int4 int8 int8 fp32"
    command = runs_of(workspace)[0].data.tags["command"]
    assert command.startswith(
        f"speakerquant --config-dir {tmp_path / 'conf'} mask=mine mask.input_conv=fp32 "
    )


def test_a_configuration_of_ones_own_builds_on_ours(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    (tmp_path / "shared/mask").mkdir(parents=True)
    (tmp_path / "shared/mask/mine.yaml").write_text("defaults: [paper, _self_]\nembedding_linear: fp32\n")
    (tmp_path / "ours.yaml").write_text(
        "defaults: [run, {override mask: mine}, _self_]\ncalibration: {num_recordings: 2}\n"
        f"hydra: {{searchpath: ['file://{tmp_path / 'shared'}']}}\n"
    )
    own = ["--config-dir", str(tmp_path), "--config-name", "ours"]
    arguments = [each for each in workspace.arguments() if not each.startswith("calibration")]
    finished = speakerquant(*own, *arguments, "engine=onnxruntime")
    assert finished.code == 0, finished.err
    [result] = results(tmp_path)
    assert " ".join(result["mask"].values()) == "int8 int8 fp32 fp32 int8 int8 fp32"
    recorded = runs_of(workspace)[0].data
    assert recorded.params["calibration.num_recordings"] == "2"
    assert recorded.tags["command"].startswith(f"speakerquant {' '.join(own)} ")
    named = speakerquant(*own, *arguments, "--cfg", "job", "--package", "mask", "mask=all_int4")
    assert "all_int4" in named.out


@pytest.mark.cluster
def test_names_mean_the_same_in_other_processes(workspace: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the extra 'cluster' is not installed")
    multirun = ["-m", "mask=all,input_conv_int4", "hydra/launcher=submitit_local", "engine=onnxruntime"]
    # By itself: the state that is handed on would hold what other tests have registered in this process.
    command = [console_script(), *multirun, "hydra.launcher.masks_per_job=2", *workspace.arguments()]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert [mask_name(result["mask"]) for result in results(tmp_path)] == ["all", "int4: input_conv"]


def test_defaults_are_the_shipped_model_on_synthetic_speech() -> None:
    choices = composed().hydra.runtime.choices
    assert (choices.data, choices.model, choices.mask, choices.engine) == (
        "synthetic",
        "shipped",
        "all",
        "auto",
    )


def test_help_names_the_groups(speakerquant: Command) -> None:
    finished = speakerquant("--help")
    assert finished.code == 0
    for group in ("mask", "calibration", "engine", "experiment", "per_unit", "se_res2block1"):
        assert group in finished.out


def test_no_password_is_left_in_any_file_or_record(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    settings = [*workspace.arguments(), *QUICK, "tracking.experiment=secret"]
    secret = "+hydra.job.env_set.MLFLOW_TRACKING_PASSWORD=open-sesame"
    for mode, code in (
        (["mask=none", "hydra.output_subdir=conf"], 0),
        (["-m", "mask=none"], 0),
        (["mask=nonsense"], 2),
        (["-m", "mask=nonsense", "+mlflow.token=open-sesame"], 2),
    ):
        finished = speakerquant(*mode, *settings, secret)
        assert finished.code == code, finished.err
        assert "open-sesame" not in finished.out + finished.err
    runs = runs_of(workspace, "secret")
    artifacts = [Path(run.info.artifact_uri.removeprefix("file://")) for run in runs]
    files = [path for folder in (tmp_path, *artifacts) for path in folder.rglob("*") if path.is_file()]
    assert {"overrides.yaml", "multirun.yaml", "config.yaml", "result.json"} <= {path.name for path in files}
    assert [path for path in files if b"open-sesame" in path.read_bytes()] == []
    assert not [run for run in runs if "sesame" in str(run)]


def test_what_is_damaged_in_the_cache_is_made_anew(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    command = [
        *workspace.arguments(),
        *QUICK,
        "mask=all",
        *("mask.embedding_linear=int4", "rounding=nearest"),
        f"cache.root={cache}",
    ]
    assert speakerquant(*command).code == 0
    kinds = {path.name for path in cache.iterdir()}
    for number, path in enumerate(sorted(cache.glob("*/*/*")) + sorted(cache.glob("*/*"))):
        if path.is_file():
            os.truncate(path, 0 if number % 2 else path.stat().st_size // 2)
    again = speakerquant(*command)
    assert again.code == 0, again.err
    for kind in kinds:
        assert f"{cache / kind}/" in again.out, kind
    first, second = results(tmp_path)
    assert first["eer"] == second["eer"] and first["fidelity"] == second["fidelity"]


def test_mlflows_own_variables_say_where_runs_go(
    workspace: Workspace, speakerquant: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workspace.tracking_uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "by the environment")
    arguments = [given for given in workspace.arguments() if not given.startswith("tracking.")]
    finished = speakerquant(*arguments, *QUICK, "mask=none")
    assert finished.code == 0, finished.err
    assert f"runs go to {workspace.tracking_uri}, as MLFLOW_TRACKING_URI says" in finished.out
    assert len(runs_of(workspace, "by the environment")) == 1


@pytest.mark.parametrize(
    ("stop", "code", "multirun"), [(signal.SIGINT, 130, []), (signal.SIGTERM, 143, ["-m", "mask=none,all"])]
)
def test_a_stopped_run_is_closed_as_failed(
    workspace: Workspace, tmp_path: Path, stop: signal.Signals, code: int, multirun: list[str]
) -> None:
    # Ranges and features of its own, so that there is work left to be stopped in.
    own = [f"cache.root={tmp_path / 'cache'}", "calibration=entropy"]
    running = start_command(launch.evaluate_mask, *multirun, *workspace.arguments(), *own, folder=tmp_path)
    while not (tmp_path / "cache").exists():  # made when the run is at work
        assert running.is_running
        time.sleep(0.05)
    running.stop(stop)
    ended, printed = running.end()
    assert ended == code, printed
    assert "Traceback" not in printed
    assert ("the same command again goes on" in printed) == (stop is signal.SIGINT)
    latest = runs_of(workspace)[0]
    assert latest.data.params["cache.root"] == str(tmp_path / "cache")
    assert latest.info.status == "FAILED"
    if multirun:
        parent = workspace.tracking.client.get_run(latest.data.tags["mlflow.parentRunId"])
        assert parent.data.tags["failure"] == "1 of 2 runs were recorded, 1 of which failed"
