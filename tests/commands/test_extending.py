"""Precisions, networks, metrics and layers as units need nothing but their registration in any command."""

from pathlib import Path

import pytest
from toy_network import ToyConfig, export_toy
from varied_network import VARIED, VariedConfig

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.checkpoints import random_model, save_checkpoint
from speakerquant.audio.front_end import FrontEnd
from speakerquant.commands import show_report
from speakerquant.quantization.precision import Precision
from speakerquant.statistics.metric import ErrorMetric
from speakerquant.tracking.recorded_runs import children, latest_multirun

from .conftest import QUICK, Command, Workspace, results
from .test_search import front_of, stored_trials

pytestmark = pytest.mark.slow

LAYERS = [
    *("input_conv", "se_res2block1.conv_in", "se_res2block1.res2_conv.convs.0"),
    *("se_res2block2.squeeze_excitation.excite", "attentive_pooling.hidden", "embedding_linear"),
]


@pytest.fixture
def toy_checkpoint(toy: Architecture, tmp_path: Path) -> Path:
    path = tmp_path / "toy.safetensors"
    front_end = FrontEnd(n_mels=8)
    save_checkpoint(path, random_model(toy, ToyConfig(), front_end, seed=0).network, front_end)
    return path


def varied_checkpoint(path: Path, **settings: bool) -> Path:
    front_end = FrontEnd(n_mels=16)
    model = random_model(VARIED, VariedConfig(**settings), front_end, seed=0)
    save_checkpoint(path, model.network, front_end)
    return path


def search(workspace: Workspace, name: str, *more: str) -> list[str]:
    return [
        "experiment=search_int8",
        "space=none",
        *workspace.arguments(),
        f"tracking.experiment={name}",
        f"hydra.sweeper.study_name={name}",
        "mask=none",
        *more,
    ]


def test_a_precision_needs_one_registration(
    workspace: Workspace, speakerquant: Command, tmp_path: Path, int6: Precision
) -> None:
    masks = ["mask=none", f"mask.aggregation_conv=fp32,{int6}"]
    finished = speakerquant("-m", *workspace.arguments(), "engine=onnxruntime", *masks)
    assert finished.code == 0, finished.err
    baseline, six_bits = sorted(results(tmp_path), key=lambda result: -result["size_ratio"])
    assert six_bits["mask"]["aggregation_conv"] == "int6"
    assert six_bits["fidelity"] >= 0.999
    assert six_bits["size_ratio"] < baseline["size_ratio"]
    assert "int6: aggregation_conv" in finished.out

    refused = speakerquant(*workspace.arguments(), "engine=openvino", "mask=none", "mask.input_conv=int6")
    assert refused.code == 2
    assert (
        "mask.input_conv=int6: the engine openvino does not run it in input_conv (conv1d of kernel 5); "
        "it runs fp32, int8" in refused.err
    )

    axis = f"mask.aggregation_conv=choice(fp32,{int6})"
    searched = speakerquant(*search(workspace, "six_bits", axis, "engine=onnxruntime"))
    assert searched.code == 0, searched.err
    assert len(stored_trials(tmp_path, "six_bits")) == 2


def test_a_network_needs_one_registration(
    workspace: Workspace, speakerquant: Command, toy_checkpoint: Path, tmp_path: Path, invoke: Command
) -> None:
    model = f"model.checkpoint={toy_checkpoint}"
    masks = ["-m", *workspace.arguments(), *QUICK, "mask=none,all"]
    finished = speakerquant(*masks, model, "tracking.experiment=toy")
    assert finished.code == 0, finished.err
    assert [set(result["mask"]) for result in results(tmp_path)] == [{"frames", "embedding"}] * 2
    reported = invoke(show_report.main, f"tracking.uri={workspace.tracking_uri}", "tracking.experiment=toy")
    assert reported.code == 0, reported.err
    assert {"none", "all"} <= set(reported.out.split())
    assert all(result["published"] is None for result in results(tmp_path))
    for shown in (finished.out, reported.out, (tmp_path / "report.html").read_text()):
        assert "EER %" in shown
        assert "paper's" not in shown and "same mask" not in shown, "nothing is published of this network"

    finished = speakerquant(*workspace.arguments(), model, f"hydra.run.dir={tmp_path / 'default'}")
    assert finished.code == 0, finished.err
    [default] = results(tmp_path / "default")
    assert default["mask"] == {"frames": "int8", "embedding": "int8"}, "INT8, as none is asked for"

    both = f"model.checkpoint={workspace.checkpoint},{toy_checkpoint}"
    compared = speakerquant(*masks, both, "tracking.experiment=networks")
    assert compared.code == 0, compared.err
    assert compared.out.count("quantized units") == 1, "one list is one table, whatever the front ends"
    assert "ΔEER to none" in " ".join(compared.out.split()), "the networks are compared with each other too"
    tracking = workspace.tracking_of("networks")
    ratios = {
        run.info.run_name: run.data.metrics["size_ratio"]
        for run in children(tracking, latest_multirun(tracking))
    }
    for path in (workspace.checkpoint, toy_checkpoint):
        name = f"none · model.checkpoint={path.name}"
        assert ratios[name] == 1, "each is compared with its own baseline"


def test_an_onnx_file_is_a_network_like_any_other(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    model = ["model=onnx", *workspace.arguments(), f"model.checkpoint={export_toy(tmp_path / 'toy.onnx')}"]
    refused = speakerquant(*model, "mask=all")
    assert (refused.code, "choose model/front_end=" in refused.err) == (2, True)
    described = [*model, "model/front_end=log_mel", "model.front_end.n_mels=8"]
    finished = speakerquant("-m", *described, *QUICK, "mask=none,all,all_int4")
    assert finished.code == 0, finished.err
    sizes = [result["engine_size_bytes"] for result in results(tmp_path)]
    assert len(set(sizes)) == 3
    assert [set(result["mask"]) for result in results(tmp_path)] == [{"frames", "embedding"}] * 3


def test_a_metric_needs_one_registration(
    workspace: Workspace, speakerquant: Command, tmp_path: Path, cllr: ErrorMetric
) -> None:
    goals = [
        f"+hydra.sweeper.objectives.{cllr.name}=minimize",
        f"+hydra.sweeper.constraints.{cllr.delta.high.name}=0.5",
    ]
    space = ["mask.embedding_linear=choice(fp32,int8)", "engine=onnxruntime"]
    searched = speakerquant(*search(workspace, "cllr", *space, *goals))
    assert searched.code == 0, searched.err
    table = next(tmp_path.glob("multirun/*/*/front.md")).read_text()
    headings = next(line for line in table.splitlines() if "quantized units" in line)
    assert "| Cllr |" in headings and "delta_cllr_high ≤ 0.5" in headings

    trials = [result for result in results(tmp_path) if result["trial_list"] == "test"]
    assert len(trials) == 2
    for result in trials:
        assert result["cllr_low"] <= result["cllr"] <= result["cllr_high"]
        assert result["delta_cllr"] == result["cllr"] - result["baseline_cllr"]
        assert result["delta_cllr_low"] <= result["delta_cllr_high"]
        assert 0 <= result["delta_cllr_p"] <= 1
    front = front_of(tmp_path)
    assert front["objectives"]["cllr"] == "minimize"
    assert all(member["values"]["cllr"] == member["result"]["cllr"] for member in front["front"])
    tracking = workspace.tracking_of("cllr")
    runs = tracking.client.search_runs([tracking.experiment_id])
    recorded = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert all({number.name for number in cllr.numbers} <= set(run.data.metrics) for run in recorded)

    wrong = search(workspace, "wrong", *space, f"+hydra.sweeper.objectives.{cllr.name}=maximize")
    refused = speakerquant(*wrong)
    assert refused.code == 2
    assert "objectives.cllr=maximize: Cllr is better the other way; use minimize" in refused.err


def on_toy(workspace: Workspace, checkpoint: Path, name: str) -> list[str]:
    """An experiment as on any network: nothing says which units this one has."""
    return [
        *workspace.arguments(),
        f"model.checkpoint={checkpoint}",
        f"tracking.experiment={name}",
        "engine.latency_requests=0",
    ]


@pytest.mark.parametrize(
    ("experiment", "units", "masks"),
    [
        ("per_unit", "block", ["fp32 fp32", "int8 fp32", "fp32 int8"]),
        ("voxceleb", "layer", ["fp32 fp32", "int8 fp32", "fp32 int8"]),
        (
            *("ladder", "block"),
            [
                *("fp32 fp32", "int8 int8", "int8 fp32", "fp32 int8", "int4 int4"),
                *("int4 fp32", "fp32 int4", "int2 int2", "int2 fp32", "fp32 int2"),
            ],
        ),
    ],
)
def test_experiments_sweep_the_units_of_any_network(
    workspace: Workspace,
    speakerquant: Command,
    toy_checkpoint: Path,
    tmp_path: Path,
    experiment: str,
    units: str,
    masks: list[str],
) -> None:
    arguments = on_toy(workspace, toy_checkpoint, experiment)
    finished = speakerquant(f"experiment={experiment}", f"units={units}", *arguments, "engine=onnxruntime")
    assert finished.code == 0, finished.err
    assert [" ".join(result["mask"].values()) for result in results(tmp_path)] == masks


def test_a_network_without_masks_of_its_own_has_no_experiment_of_them(
    workspace: Workspace, speakerquant: Command, toy_checkpoint: Path
) -> None:
    finished = speakerquant("experiment=paper", *on_toy(workspace, toy_checkpoint, "paper"))
    assert finished.code == 2
    [line] = finished.err.splitlines()
    assert "this network names no masks of its own" in line and "experiment=per_unit" in line


@pytest.mark.parametrize(("experiment", "n_trials"), [("search", 2), ("front", 4)])
def test_searches_go_over_the_units_of_any_network(
    workspace: Workspace,
    speakerquant: Command,
    toy_checkpoint: Path,
    tmp_path: Path,
    experiment: str,
    n_trials: int,
) -> None:
    finished = speakerquant(
        f"experiment={experiment}",
        *on_toy(workspace, toy_checkpoint, f"toy_{experiment}"),
        f"hydra.sweeper.study_name={experiment}",
        "engine=onnxruntime",
        f"hydra.sweeper.n_trials={n_trials}",
        "front.delta_eer_high=null",
    )
    assert finished.code == 0, finished.err
    trials = stored_trials(tmp_path, experiment)
    assert len(trials) == n_trials
    for trial in trials:
        assert {name: axis.choices for name, axis in trial.distributions.items()} == {
            "mask.frames": ("int8", "int4", "int2"),
            "mask.embedding": ("int8", "int4", "int2"),
        }
    assert set(front_of(tmp_path)["recommended"]["result"]["mask"]) == {"frames", "embedding"}
    assert "paper" not in next(tmp_path.glob("multirun/*/*/front.md")).read_text()
    assert "paper's proposal" not in next(tmp_path.glob("multirun/*/*/front.html")).read_text()


def test_a_search_goes_over_what_is_left_to_it(
    workspace: Workspace, speakerquant: Command, toy_checkpoint: Path, tmp_path: Path
) -> None:
    finished = speakerquant(
        "experiment=search",
        *on_toy(workspace, toy_checkpoint, "left"),
        *("hydra.sweeper.study_name=left", "engine=onnxruntime", "front.delta_eer_high=null"),
        *("space.precisions=[int8,int4]", "mask.frames=int2"),
    )
    assert finished.code == 0, finished.err
    trials = stored_trials(tmp_path, "left")
    assert [trial.params for trial in trials] == [{"mask.embedding": "int8"}, {"mask.embedding": "int4"}]
    assert {result["mask"]["frames"] for result in results(tmp_path)} == {"int2"}


def test_a_single_layer_is_a_unit(workspace: Workspace, speakerquant: Command, tmp_path: Path) -> None:
    single = ["units=layer", "mask=none", "mask.se_res2block1.res2_conv.convs.0=fp32,int8"]
    finished = speakerquant("-m", *workspace.arguments(), *QUICK, "tracking.experiment=layer", *single)
    assert finished.code == 0, finished.err
    plain, quantized = sorted(results(tmp_path), key=lambda result: -result["size_ratio"])
    assert len(quantized["mask"]) == 20
    assert [unit for unit in plain["mask"] if plain["mask"][unit] != quantized["mask"][unit]] == [
        "se_res2block1.res2_conv.convs.0"
    ]
    assert "se_res2block1.res2_conv.convs.0" in finished.out
    tracking = workspace.tracking_of("layer")
    runs = tracking.client.search_runs([tracking.experiment_id])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    recorded = [
        run.data.params["mask.se_res2block1.res2_conv.convs.0"]
        for run in children(tracking, parent.info.run_id)
    ]
    assert recorded == ["fp32", "int8"]


def test_layers_of_every_kind_go_through_every_command(
    workspace: Workspace, speakerquant: Command, invoke: Command, varied: Architecture, tmp_path: Path
) -> None:
    checkpoint = varied_checkpoint(tmp_path / "varied.safetensors")
    arguments = [*on_toy(workspace, checkpoint, "varied"), "engine=openvino"]
    masks = "mask=none,all,all_int4,branches_int2_channel"
    finished = speakerquant("-m", *arguments, masks)
    assert finished.code == 0, finished.err
    found = results(tmp_path)
    assert all(result["fidelity"] >= 0.999 for result in found)
    assert [result["mask"]["branches"] for result in found] == ["fp32", "int8", "int4", "int2_channel"]
    assert not any(result["widened"] for result in found)
    front = ["experiment=front", "space.precisions=[int8,int4]", "front.delta_eer_high=null"]
    searched = speakerquant(*arguments, *front, "mask=none", "hydra.sweeper.n_trials=2")
    assert searched.code == 0, searched.err
    assert set(front_of(tmp_path)["recommended"]["result"]["mask"]) == {
        *("head", "separable", "branches", "embedding")
    }
    reported = invoke(
        show_report.main, f"tracking.uri={workspace.tracking_uri}", "tracking.experiment=varied"
    )
    assert reported.code == 0, reported.err


def test_what_no_mask_reaches_is_said(
    workspace: Workspace,
    speakerquant: Command,
    invoke: Command,
    varied: Architecture,
    tmp_path: Path,
) -> None:
    checkpoint = varied_checkpoint(tmp_path / "memory.safetensors", has_memory=True)
    arguments = [*on_toy(workspace, checkpoint, "memory"), "engine=onnxruntime"]
    finished = speakerquant("-m", *arguments, "mask=none,all")
    assert finished.code == 0, finished.err
    _, result = results(tmp_path)
    assert result["unreached"] == {"memory": "GRU"}
    assert 0.1 < result["unreached_share"] < 0.9
    words = f"{100 * result['unreached_share']:.1f} % of the weights: memory (GRU)"
    assert f"in FP32 whatever the mask, {words}" in finished.out
    invoke(show_report.main, f"tracking.uri={workspace.tracking_uri}", "tracking.experiment=memory")
    assert words in (tmp_path / "report.md").read_text()
    refused = speakerquant(*arguments, "mask=none", "mask.memory=int8")
    assert refused.code == 2
    assert "mask.memory: memory is of a kind that cannot be quantized (GRU)" in refused.err
