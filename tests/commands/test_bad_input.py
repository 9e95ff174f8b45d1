"""Every mistake ends in one line that says what, where and what to do; exit code 2."""

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from speakerquant.architectures.checkpoints import random_model, save_checkpoint
from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.audio.front_end import FrontEnd
from speakerquant.commands import inspect_engine, register_model, show_report, show_ui, verify_speaker
from speakerquant.corpus.recordings import find_recordings, speaker_from_path
from speakerquant.corpus.synthetic import TRIALS_FILE
from speakerquant.tracking.artifacts import REFERENCE_FILE

from .conftest import Command, Finished, Workspace, development_list, results

pytestmark = pytest.mark.slow


def assert_one_line(finished: Finished, *said: str) -> None:
    lines = [line for line in finished.err.splitlines() if line.startswith("error: ")]
    assert finished.code == 2, finished
    assert "Traceback" not in finished.err
    assert len(lines) == 1
    for text in said:
        assert text in lines[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data.root=/nowhere"], ["/nowhere", "data.root"]),
        (["data.trials=/nowhere.txt"], ["/nowhere.txt", "data.trials"]),
        (["data.calibration_root=/nowhere"], ["/nowhere"]),
        (["data.root=null"], ["data.root", "data=folder"]),
        (["engine.fidelity_recordings=0"], ["engine.fidelity_recordings"]),
        (["mask.se_res2block9=int8"], ["se_res2block9", "unknown unit", "input_conv", "embedding_linear"]),
        (["mask.input_conv=int4_g48"], ["mask.input_conv: precision 'int4_g48'", "power of two"]),
        (
            ["mask.input_conv=int2", "engine=tensorrt_rtx"],
            ["input_conv=int2", "runs fp32, fp16, int8, int8_fitted, int4"],
        ),
        (
            ["mask.input_conv=int8_dynamic", "engine=openvino"],
            [
                "mask.input_conv=int8_dynamic",
                "openvino does not run it",
                "runs fp32, int8, int8_fitted, int4",
            ],
        ),
        (["mask.input_conv=int5"], ["mask.input_conv", "'int5'", "fp32, fp16, int8"]),
        (["calibration.method=guess"], ["calibration.method", "'guess'", "max, percentile, entropy, mse"]),
        (["recovery.steps=-1"], ["recovery.steps=-1", "0 trains none"]),
        (["recovery.batch_size=0"], ["recovery.batch_size=0"]),
        (["calibration.num_recordings=0"], ["calibration.num_recordings=0", "empty"]),
        (["calibration.percentile=101"], ["calibration.percentile", "101"]),
        (["engine.weight_bits=6"], ["engine.weight_bits", "6"]),
        (
            ["engine.name=abacus"],
            ["engine.name", "abacus", "auto, tensorrt, tensorrt_rtx, openvino, onnxruntime"],
        ),
        (["engine=tensorrt", "engine.python=/nowhere"], ["/nowhere", "cannot be started"]),
        (["scoring=as_norm"], ["scoring.norm=as_norm", "set scoring.cohort_root"]),
        (["scoring=as_norm", "scoring.cohort_root=/nowhere"], ["/nowhere"]),
        (["scoring.cohort_root=/nowhere"], ["scoring.cohort_root", "scoring=as_norm"]),
        (
            ["scoring=as_norm", "scoring.cohort_root=${data.calibration_root}"],
            ["top_n=300", "cohort"],
        ),
        (
            ["scoring=s_norm", "scoring.cohort_root=${data.root}"],
            ["speaker", "also in the trial list"],
        ),
        (["scoring.p_targets=[0.01,1]"], ["scoring.p_targets=[0.01, 1.0]"]),
        (["scoring.false_accepts=[1,0]"], ["scoring.false_accepts=[1.0, 0.0]", "between 0 and 100"]),
        (["data.development_root=/nowhere"], ["data.development_root", "data.development_trials too"]),
        (["engine.time_limit=0"], ["engine.time_limit=0", "more than 0"]),
        (["engine=openvino", "engine.python=python3"], ["engine.python"]),
        (
            ["engine=openvino", "mask.aggregation_conv=fp16"],
            ["mask.aggregation_conv=fp16", "openvino does not run it", "it runs fp32, int8"],
        ),
        (["model.checkpoint=/nowhere.safetensors"], ["/nowhere.safetensors", "model.checkpoint"]),
        (["data.num_speakers=200"], ["data.num_speakers", "data.root"]),
        (["data.seed=7"], ["data.seed is for the synthetic corpus"]),
        (["model=ecapa_c1024"], ["channels 64", "1024"]),
        (["data.roof=/x"], ["data.roof: unknown setting; did you mean data.root?"]),
        (
            ["calibration.zeal=1"],
            ["calibration.zeal: unknown setting; calibration has method, "],
        ),
        (
            ["+calibration.metod=max"],
            ["calibration.metod: unknown setting; did you mean calibration.method?"],
        ),
        (["data.trials=~/nowhere.txt"], [str(Path.home() / "nowhere.txt")]),
        (["engin=openvino"], ["engin: unknown setting; did you mean engine?"]),
        (["model.front_end.n_mels=40"], ["model.front_end.n_mels=40", "model/front_end=wespeaker"]),
        (
            ["model/front_end=wespeaker", "model.front_end.n_fft=1024"],
            ["front_end.n_fft=1024: the kind kaldi does not read it"],
        ),
        (["model/front_end=speechbrain", "model.front_end.center=true"], ["front_end.center=True: the kind"]),
        (["model/front_end=speechbrain", "model.front_end.preemphasis=0"], ["front_end.preemphasis=0.0"]),
        (["model.front_end={n_mels:40}"], ["model.front_end={n_mels:40}", "model/front_end=wespeaker"]),
        (["mask=nonsense"], ["mask=nonsense: unknown mask", "none, all, input_conv", "paper"]),
        (["mask=all_int9"], ["mask=all_int9: unknown precision 'int9'"]),
        (["mask=true"], ["mask=true: unknown mask"]),
        (["scoring=null"], ["scoring: not set and without a default"]),
        (["--cfg", "job", "-m", "mask=none,all"], ["Only one of", "--cfg"]),
        (["-m", "mask=glob(x*)"], ["nothing to evaluate", "no values"]),
        (["-m", "experiment=per_unit", "model=shipped,campplus"], ["model: ", "a command for each"]),
        (["experiment=ladder", "units=block,layer"], ["units: ", "a command for each"]),
        (["-m", "mask=none,all", "front.size_ratio=0.3"], ["front.size_ratio=0.3", "experiment=search"]),
        (["-m", "mask=none,all", "space.precisions=[int8]"], ["space.precisions", "experiment=search"]),
        (["calibration.num_recordings=many"], ["many"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and "=" in value[0] else "",
)
def test_wrong_setting(
    workspace: Workspace, speakerquant: Command, tmp_path: Path, arguments: list[str], said: list[str]
) -> None:
    # A group choice must precede the checkpoint of the workspace, which then overrides the group's own.
    finished = speakerquant(*workspace.arguments(), *arguments)
    assert_one_line(finished, *said)
    assert results(tmp_path) == []


def test_a_development_list_that_cannot_be_read_is_named_before_the_work(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    finished = speakerquant(*workspace.arguments(), "data.development_trials=/nowhere.txt")
    assert_one_line(finished, "/nowhere.txt")
    assert not [*tmp_path.rglob("engine.*")]


def test_a_development_folder_that_is_missing_is_called_so(
    workspace: Workspace, speakerquant: Command
) -> None:
    arguments = ("data.development_root=/nowhere", f"data.development_trials={development_list(workspace)}")
    finished = speakerquant(*workspace.arguments(), *arguments)
    assert_one_line(finished, "check data.development_root and data.development_trials")


def _remove_recording(corpus: Path, first: Path) -> list[str]:
    first.unlink()
    return [str(first), "does not exist"]


def _cut_recording(corpus: Path, first: Path) -> list[str]:
    first.write_bytes(first.read_bytes()[:1000])
    return [str(first), "truncated"]


def _four_fields(corpus: Path, first: Path) -> list[str]:
    path = corpus / TRIALS_FILE
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, "0 a.wav b.wav c.wav"]) + "\n")
    return [f"{path}:{len(lines) + 1}", "4 fields"]


def _one_non_target(corpus: Path, first: Path) -> list[str]:
    path = corpus / TRIALS_FILE
    lines = path.read_text().splitlines(keepends=True)
    other = next(line for line in lines if line.startswith("0"))
    path.write_text("".join([*(line for line in lines if line.startswith("1")), other]))
    return ["data.trials: 1 trial of one kind", "list at least 2 of each"]


def _two_speakers(corpus: Path, first: Path) -> list[str]:
    path = corpus / TRIALS_FILE
    lines = path.read_text().splitlines(keepends=True)
    two = sorted({speaker_from_path(name) for line in lines for name in line.split()[1:]})[:2]
    kept = [line for line in lines if {speaker_from_path(name) for name in line.split()[1:]} <= {*two}]
    path.write_text("".join(kept))
    return ["data.trials: trials of 2 speakers", "need 3 or more"]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(_remove_recording, id="missing recording"),
        pytest.param(_cut_recording, id="truncated recording"),
        pytest.param(_four_fields, id="four fields"),
        pytest.param(_one_non_target, id="one non-target"),
        pytest.param(_two_speakers, id="two speakers"),
    ],
)
def test_faulty_corpus(
    workspace: Workspace,
    speakerquant: Command,
    tmp_path: Path,
    spoil: Callable[[Path, Path], list[str]],
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(workspace.corpus, corpus)
    said = spoil(corpus, corpus / find_recordings(corpus)[0])
    finished = speakerquant(
        *workspace.arguments(), f"data.root={corpus}", f"data.trials={corpus / TRIALS_FILE}"
    )
    assert_one_line(finished, *said)


@pytest.mark.parametrize("missing", ["data.root", "data.trials", "data.calibration_root"])
def test_own_recordings_need_all_three_paths(
    workspace: Workspace, speakerquant: Command, tmp_path: Path, missing: str
) -> None:
    arguments = [argument for argument in workspace.arguments() if not argument.startswith(f"{missing}=")]
    assert_one_line(speakerquant(*arguments), missing)
    assert results(tmp_path) == []


def test_calibration_speaker_that_is_also_a_test_speaker(workspace: Workspace, speakerquant: Command) -> None:
    finished = speakerquant(*workspace.arguments(), f"data.calibration_root={workspace.corpus}")
    assert_one_line(finished, "test0000", "other speakers")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("rounding.root=/nowhere", "/nowhere"),
        ("data.seed=-1", "seed=-1 of the synthetic corpus: must not be negative"),
        ("data.keep_repeated_trials=true", "data.root is not set, so the rest of data has no meaning"),
    ],
)
def test_settings_count_beside_the_synthetic_corpus_or_are_refused(
    setting: str, said: str, workspace: Workspace, speakerquant: Command
) -> None:
    finished = speakerquant(setting, "mask=all_int2", f"tracking.uri={workspace.tracking_uri}")
    assert_one_line(finished, said)


def test_empty_calibration_folder(workspace: Workspace, speakerquant: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    finished = speakerquant(*workspace.arguments(), f"data.calibration_root={tmp_path / 'empty'}")
    assert_one_line(finished, "empty", "no recording in this folder")


def test_checkpoint_of_another_width(workspace: Workspace, speakerquant: Command, tmp_path: Path) -> None:
    path = tmp_path / "narrow.safetensors"
    save_checkpoint(
        path, random_model(ECAPA_TDNN, EcapaTdnnConfig(channels=32), FrontEnd(), 0).network, FrontEnd()
    )
    finished = speakerquant(*workspace.arguments(), "model=ecapa_c1024", f"model.checkpoint={path}")
    assert_one_line(finished, str(path), "channels 32", "1024")


def test_checkpoint_that_is_none(workspace: Workspace, speakerquant: Command, tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("dear reader")
    finished = speakerquant(*workspace.arguments(), f"model.checkpoint={path}")
    assert_one_line(finished, str(path), "a text file, not weights")


def test_output_folder_that_cannot_be_written(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    # Permissions do not stop a superuser, who may well run the tests: a file in the way stops everyone.
    (tmp_path / "file").touch()
    finished = speakerquant(*workspace.arguments(), f"hydra.run.dir={tmp_path / 'file' / 'run'}")
    assert_one_line(finished, str(tmp_path / "file"), "cannot write")


@pytest.mark.skipif(os.geteuid() == 0, reason="a superuser may write everywhere")
def test_read_only_output_folder(workspace: Workspace, speakerquant: Command, tmp_path: Path) -> None:
    folder = tmp_path / "readonly"
    folder.mkdir(mode=0o500)
    finished = speakerquant(*workspace.arguments(), f"hydra.run.dir={folder / 'run'}")
    assert_one_line(finished, str(folder), "cannot write")


@pytest.mark.parametrize("mode", ["run", "multirun"])
@pytest.mark.parametrize("server", ["refuses", "is silent"])
def test_tracking_server_that_does_not_answer(
    workspace: Workspace,
    speakerquant: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    mode: str,
) -> None:
    patience = 15.0  # the promise is a bound, not a speed
    # MLflow's own settings, where the user knows better.
    if mode == "multirun":
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        patience = 9.0
    elif server == "is silent":  # for as long as each of several requests would take
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patience = 9.0
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    if server == "refuses":
        listener.close()
    start = time.monotonic()
    masks = ["-m", "mask=none,all"] if mode == "multirun" else ["mask=all"]
    finished = speakerquant(*masks, *workspace.arguments(), f"tracking.uri={address}")
    assert time.monotonic() - start < patience
    listener.close()
    assert_one_line(finished, address, "does not answer")
    assert results(tmp_path) == []


def test_the_launcher_of_slurm_where_there_is_none(
    workspace: Workspace, speakerquant: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(
        "hydra_plugins.hydra_submitit_launcher", reason="the extra 'cluster' is not installed"
    )
    monkeypatch.setenv("PATH", "")
    finished = speakerquant("-m", "mask=none,all", *workspace.arguments(), "hydra/launcher=submitit_slurm")
    assert_one_line(finished, "hydra/launcher=submitit_slurm", "no sbatch on PATH")
    assert f"tracking.uri={workspace.tracking_uri}" in finished.out  # a file for jobs of several hosts


def test_the_launcher_of_slurm_without_its_package(
    workspace: Workspace, speakerquant: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "hydra_plugins.cluster_launchers._submitit", raising=False)
    monkeypatch.setitem(sys.modules, "submitit", None)
    finished = speakerquant("-m", "mask=none,all", *workspace.arguments(), "hydra/launcher=submitit_slurm")
    assert_one_line(finished, "hydra-submitit-launcher", "pip install")


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (show_report.main, ()),
        (show_report.main, ("tracking.uri=sqlite:///folder/mlflow.db",)),
        (show_ui.main, ()),
        (register_model.main, ("run=runs:/some",)),
        (verify_speaker.main, ("--model", "models:/some@alias", "a.wav", "b.wav")),
        (inspect_engine.main, ("info", "models:/some/1")),
        (inspect_engine.main, ("info", "run")),
    ],
)
def test_a_command_that_reads_makes_nothing_where_there_is_nothing(
    main: Callable[[], None],
    arguments: tuple[str, ...],
    invoke: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    reference = {"uri": "sqlite:///gone/mlflow.db", "run_id": "some", "files": ["engine.onnx"]}
    Path("run", REFERENCE_FILE).write_text(json.dumps(reference))
    assert_one_line(invoke(main, *arguments), "there is no file", str(tmp_path))
    assert [*tmp_path.rglob("*")] == [tmp_path / "run", tmp_path / "run" / REFERENCE_FILE]


def test_the_ui_takes_no_port_on_which_something_else_answers(
    new_store: Callable[[Path], str], invoke: Command, tmp_path: Path
) -> None:
    store = [f"tracking.uri={new_store(tmp_path)}", "tracking.experiment=Default"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = f"port={other.getsockname()[1]}"
        assert_one_line(invoke(show_ui.main, *store, port), f"{port}: ", "choose another")
    assert_one_line(invoke(show_ui.main, *store, "port=0"), "port=0", "from 1 to 65535")


def test_a_value_that_holds_an_equals_sign_is_to_be_quoted(speakerquant: Command) -> None:
    finished = speakerquant("data.root=/corpora/year=2024/wav")
    assert_one_line(finished, "data.root=/corpora/year=2024/wav: ", """quote a value that holds '='""")


@pytest.mark.parametrize("channel", ["0", "left"])
def test_channels_are_counted_from_one(workspace: Workspace, speakerquant: Command, channel: str) -> None:
    finished = speakerquant(*workspace.arguments(), f"data.channel={channel}")
    assert_one_line(finished, "data.channel" if channel != "left" else "left")


def test_a_module_and_a_part_of_it_are_not_both_set(workspace: Workspace, speakerquant: Command) -> None:
    arguments = ("units=layer", "mask=all", "mask.se_res2block1=fp32", "mask.se_res2block1.conv_in=int8")
    finished = speakerquant(*workspace.arguments(), *arguments)
    assert_one_line(finished, "mask.se_res2block1 and mask.se_res2block1.conv_in", "a module and its part")


def test_a_configuration_of_another_command_is_refused(speakerquant: Command) -> None:
    assert_one_line(speakerquant("--config-name=train"), "--config-name: ", "begin its defaults with run")


def test_a_name_in_the_place_of_a_masks_entries_would_outdo_the_command_line(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nmask: all")
    finished = speakerquant("--config-dir", str(tmp_path), "experiment=mine", *workspace.arguments())
    assert_one_line(finished, "mask: all", '"defaults: [override /mask: all]"')


def test_a_single_run_says_what_is_for_multiruns_and_for_searches(
    workspace: Workspace, speakerquant: Command
) -> None:
    arguments = ("hydra/launcher=submitit_local", "front.size_ratio=0.3", "mask=nonsense")
    finished = speakerquant(*workspace.arguments(), *arguments)
    assert_one_line(finished, "unknown mask")
    assert "hydra/launcher=submitit_local: a single run" in finished.out
    assert "front.size_ratio=0.3: for searches only" in finished.out
    assert "for searches" not in speakerquant("experiment=search", "hydra.mode=RUN", *arguments).out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["scoring=s_norm", "scoring.cohort_root={}"], "name a cohort of other speakers"),
        (["data.calibration_root={}"], "calibrate on other speakers"),
    ],
)
def test_speakers_of_the_development_list_are_refused_elsewhere(
    settings: list[str], said: str, workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    lines = (workspace.corpus / TRIALS_FILE).read_text().splitlines(keepends=True)
    last = max(speaker_from_path(name) for line in lines for name in line.split()[1:])
    (tmp_path / "trials.txt").write_text("".join(line for line in lines if last not in line))
    shutil.copytree(workspace.corpus / last, tmp_path / "others" / last)
    finished = speakerquant(
        *workspace.arguments(),
        f"data.trials={tmp_path / 'trials.txt'}",
        f"data.development_trials={workspace.corpus / TRIALS_FILE}",
        *(each.format(tmp_path / "others") for each in settings),
    )
    assert_one_line(finished, f"speaker {last} is also in the development list; {said}")


def test_a_development_list_of_two_speakers_is_called_so(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(workspace.corpus, corpus)
    _two_speakers(corpus, corpus)
    settings = (f"data.development_trials={corpus / TRIALS_FILE}", "data.evaluate_on=development")
    finished = speakerquant(*workspace.arguments(), *settings)
    assert_one_line(finished, "data.development_trials: trials of 2 speakers")


def test_a_cohort_needs_the_folder_of_its_recordings(workspace: Workspace, speakerquant: Command) -> None:
    finished = speakerquant(*workspace.arguments(), "scoring.cohort=/cohort.txt")
    assert_one_line(finished, "scoring.cohort is set: set scoring.cohort_root too")


SAMPLER = "hydra.sweeper.sampler._target_"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["+hydra.sweeper.objectives.speed=maximize", "engine=onnxruntime"],
            ["objectives.speed", "delta_eer", "seconds.embedding"],
        ),
        (
            ["+hydra.sweeper.constraints.noise=1", "engine=onnxruntime"],
            ["constraints.noise", "delta_eer"],
        ),
        (["hydra.sweeper.objectives.delta_eer=up"], ["objectives.delta_eer=up", "minimize or maximize"]),
        (["+hydra.sweeper.constraints.delta_eer=low"], ["delta_eer=low", "largest allowed"]),
        (
            ["~hydra.sweeper.objectives.delta_eer", "~hydra.sweeper.objectives.engine_size_bytes"],
            ["objectives"],
        ),
        ([f"{SAMPLER}=optuna.samplers.CmaEsSampler"], ["sampler", "CmaEsSampler", "TPESampler"]),
        ([f"{SAMPLER}=optuna.samplers.Nonsense"], [SAMPLER, "optuna.samplers.Nonsense", "imported"]),
        ([f"{SAMPLER}=pathlib.Path"], [SAMPLER, "pathlib.Path", "not an Optuna sampler"]),
        (["+hydra.sweeper.sampler.speed=1"], ["hydra.sweeper.sampler", "speed"]),
        (["hydra.sweeper.storage=postgresql+psycopg://u:secret@127.0.0.1:9/x"], ["storage", "127.0.0.1:9"]),
        (["hydra.sweeper.storage=nonsense://x"], ["hydra.sweeper.storage=nonsense://x"]),
        (["hydra.sweeper.storage=/dev/null/x.journal"], ["hydra.sweeper.storage=/dev/null/x.journal"]),
        (["hydra.sweeper.n_trials=0"], ["hydra.sweeper.n_trials=0", "at least 1"]),
        (
            ["mask.input_conv=choice(fp32,int8)", "hydra.sweeper.n_trial=5"],
            ["hydra.sweeper.n_trial: unknown setting; did you mean hydra.sweeper.n_trials?"],
        ),
        (["calibration=choice(max,mse)", "data.num_speaker=6"], ["did you mean data.num_speakers?"]),
        (
            ["units=layer", "mask.se_res2block1=int8", "mask.se_res2block1.conv_in=choice(fp32,int8)"],
            ["mask.se_res2block1 and mask.se_res2block1.conv_in", "a module and its part"],
        ),
        (["mask.input_conv=choice(int4,int4_g64)"], ["mask.input_conv: two of its choices are the same"]),
        (["+hydra.sweeper.constraints.fidelity=0.5"], ["constraints.fidelity", "better the larger it is"]),
        (["data.trials=/nowhere.txt"], ["/nowhere.txt: cannot read the trial list"]),
        (["hydra.sweeper.n_jobs=0"], ["hydra.sweeper.n_jobs=0", "at least 1"]),
        (
            ["hydra.sweeper.n_jobs=2", "hydra.sweeper.objectives.latency_ms_p50=minimize"],
            ["hydra.sweeper.n_jobs=2", "latency_ms_p50 is a time", "n_jobs=1"],
        ),
        (
            ["+hydra.sweeper.constraints.delta_eer_high=0.02"],
            [
                "constraints.delta_eer_high=0.02 and front.delta_eer_high=0.074",
                "set front.delta_eer_high alone",
            ],
        ),
        (
            ["hydra.sweeper.warm_start=false", "hydra/sweeper/sampler=none"],
            ["sampler=none evaluates first points only", "warm_start=true"],
        ),
        (["hydra.sweeper.max_failure_rate=2"], ["hydra.sweeper.max_failure_rate=2", "0 to 1"]),
        (["calibration.colour=choice(red,blue)"], ["calibration.colour"]),
        (["space.precisions=[fp32,int9]"], ["space.precisions: unknown precision 'int9'"]),
        (["model.checkpoint=/nowhere.safetensors"], ["/nowhere.safetensors", "model.checkpoint"]),
        (
            ["calibration.percentile=range(99,99)"],
            ["calibration.percentile=range(99,99)", "nothing to choose"],
        ),
        (["tracking.uri=http://127.0.0.1:9"], ["tracking.uri=http://127.0.0.1:9"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and "=" in value[0] else "",
)
def test_wrong_search(
    workspace: Workspace, speakerquant: Command, tmp_path: Path, arguments: list[str], said: list[str]
) -> None:
    finished = speakerquant("experiment=search_int8", *workspace.arguments(), *arguments)
    assert_one_line(finished, *said)
    assert "secret" not in finished.err


def test_a_search_without_a_space(workspace: Workspace, speakerquant: Command, tmp_path: Path) -> None:
    finished = speakerquant(
        "-m",
        "hydra/sweeper=optuna_search",
        "hydra.sweeper.objectives={eer: minimize}",
        *workspace.arguments(),
    )
    assert_one_line(finished, "hydra.sweeper.params", "nothing to search")


def test_a_study_of_another_checkpoint(workspace: Workspace, speakerquant: Command, tmp_path: Path) -> None:
    search = [
        *("experiment=search_int8", *workspace.arguments()),
        *("hydra.sweeper.study_name=mine", "engine=onnxruntime"),
    ]
    assert speakerquant(*search, "hydra.sweeper.n_trials=1").code == 0
    config = EcapaTdnnConfig(channels=64, aggregation_channels=192, attention_channels=32, se_channels=16)
    save_checkpoint(
        tmp_path / "other.safetensors", random_model(ECAPA_TDNN, config, FrontEnd(), 1).network, FrontEnd()
    )
    finished = speakerquant(*search, f"model.checkpoint={tmp_path}/other.safetensors")
    assert_one_line(finished, "study_name=mine", "another checkpoint")
    finished = speakerquant(*search, "mask.input_conv=int8")
    assert_one_line(finished, "study_name=mine", "mask.input_conv")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"op_code":0,"worker_id":"a"\n{"op_code":1}\n', "line 1 is broken"),
        (b"SQLite format 3\0 and so on\n\n", "sqlite:///"),
        (b'{"op_code":77,"worker_id":"a"}\n', "not a readable journal"),
    ],
)
def test_a_corrupt_journal(
    workspace: Workspace, speakerquant: Command, tmp_path: Path, content: bytes, said: str
) -> None:
    journal = tmp_path / "studies.journal"
    journal.write_bytes(content)
    finished = speakerquant(
        "experiment=search_int8", *workspace.arguments(), f"hydra.sweeper.storage={journal}"
    )
    assert_one_line(finished, str(journal), said)
    assert journal.read_bytes() == content
