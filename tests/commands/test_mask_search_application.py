"""What makes two searches over masks comparable, and which searches are refused before they start."""

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution

from speakerquant import schema_versions
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn
from speakerquant.commands.console_script import config_folder
from speakerquant.commands.mask_search_application import MaskSearchApplication
from speakerquant.configuration.conversion import typed
from speakerquant.configuration.opening import open_cache, open_mask
from speakerquant.configuration.schema import RunConfig, register_schemas
from speakerquant.configuration.sharing import Sharing
from speakerquant.corpus.recordings import find_recordings
from speakerquant.corpus.synthetic import TRIALS_FILE
from speakerquant.errors import UserError
from speakerquant.measuring.result import DIGESTS
from speakerquant.search.goals import Goals
from speakerquant.search.space import Space

from .conftest import Command, Workspace, development_list, results

pytestmark = pytest.mark.slow

SIZE = Goals({"engine_size_bytes": "minimize"})
BLOCKS = Space({"mask.aggregation_conv": CategoricalDistribution(("fp32", "int8"))})
FIXED = "fixed part of the mask"


def configured(workspace: Workspace, *overrides: str) -> DictConfig:
    register_schemas()
    with initialize_config_dir(config_folder(), version_base="1.3"):
        return compose("run", [*workspace.arguments(), "engine=openvino", "mask=none", *overrides])


def fingerprint(
    workspace: Workspace, *overrides: str, space: Space = BLOCKS, goals: Goals = SIZE
) -> Mapping[str, str]:
    return MaskSearchApplication().fingerprint(configured(workspace, *overrides), space, goals)


def layers(*names: str) -> Space:
    return Space({f"mask.{name}": CategoricalDistribution(("fp32", "int8")) for name in names})


def test_the_units_that_are_not_searched_make_the_difference(workspace: Workspace) -> None:
    default, searched, fixed = (
        fingerprint(workspace, *overrides)
        for overrides in ((), ("mask.aggregation_conv=int8",), ("mask.input_conv=int8",))
    )
    assert default == searched
    assert {name for name in default if default[name] != fixed[name]} == {FIXED}
    assert "aggregation_conv" not in default[FIXED]
    assert "input_conv=int8" in fixed[FIXED]


def test_versions_of_the_project_that_measure_otherwise_share_no_study(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = fingerprint(workspace)
    monkeypatch.setattr(schema_versions, "ROUNDED_WEIGHTS", schema_versions.ROUNDED_WEIGHTS + 1)
    later = fingerprint(workspace)
    assert {name for name in here if here[name] != later[name]} == {"way of measuring"}


def test_masks_that_are_recovered_share_no_study_with_those_that_are_not(workspace: Workspace) -> None:
    rounded, recovered, longer = (
        fingerprint(workspace, *overrides) for overrides in ((), ("recovery.steps=2",), ("recovery.steps=3",))
    )
    for one, other in itertools.combinations((rounded, recovered, longer), 2):
        assert {name for name in one if one[name] != other[name]} == {"rounding"}
    assert "recovery in 2 steps" in recovered["rounding"]


@pytest.mark.parametrize(
    ("axis", "choices", "setting"),
    [
        ("recovery.steps", (0, 20), "recovery.learning_rate=0.2"),
        ("rounding", ("nearest", "gptq"), "rounding.num_recordings=3"),
        ("rounding.method", ("nearest", "gptq"), "rounding.root={speaker}"),
    ],
)
def test_what_only_some_points_read_tells_studies_apart(
    axis: str, choices: tuple[object, ...], setting: str, workspace: Workspace
) -> None:
    searched = {axis: choices, "mask.embedding_linear": ("int8", "int4")}
    space = Space({name: CategoricalDistribution(values) for name, values in searched.items()})
    given = setting.format(speaker=min(path for path in workspace.calibration.iterdir() if path.is_dir()))
    one, other = (fingerprint(workspace, "rounding=nearest", *more, space=space) for more in ((), (given,)))
    assert {name for name in one if one[name] != other[name]} == {"rounding"}


def test_every_engine_that_is_searched_is_named(workspace: Workspace) -> None:
    axis = CategoricalDistribution(("openvino", "onnxruntime"))
    alone, both = (
        fingerprint(workspace, space=space)["engine"] for space in (BLOCKS, Space({"engine": axis}))
    )
    other = fingerprint(workspace, "engine=onnxruntime")["engine"]
    assert both == f"{alone}; {other}"


def test_masks_that_are_judged_by_other_thresholds_or_groups_share_no_study(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Whatever the goals: results hold the numbers of both."""
    names = find_recordings(workspace.corpus)
    lines = [f"{name}\t{'fm'[place % 2]}" for place, name in enumerate(names)]
    (tmp_path / "table.tsv").write_text("\n".join(["recording\tsex", *lines]))
    own, *others = (
        fingerprint(workspace, "data.evaluate_on=test", *overrides)
        for overrides in (
            (),
            (f"data.development_trials={development_list(workspace)}",),
            (f"data.conditions={tmp_path / 'table.tsv'}",),
        )
    )
    for name, other in zip(("thresholds", "conditions"), others, strict=True):
        assert name in other and {**other, name: None} == {**own, name: None}


def test_what_changes_amid_a_search_is_named_unless_it_is_searched(
    workspace: Workspace, tmp_path: Path
) -> None:
    trials = tmp_path / "trials.txt"
    lines = (workspace.corpus / TRIALS_FILE).read_text().splitlines(keepends=True)
    trials.write_text("".join(lines))
    given = (f"data.trials={trials}", "rounding.num_recordings=2")
    alone = Space({"mask.aggregation_conv": CategoricalDistribution(("int8", "int4"))})
    among = Space({**alone.axes, "calibration.num_recordings": CategoricalDistribution((3, 4))})
    searches = [MaskSearchApplication(), MaskSearchApplication()]
    for search, space in zip(searches, (alone, among), strict=True):
        search.fingerprint(configured(workspace, *given), space, SIZE)

    def changed(*overrides: str) -> list[str | None]:
        config = typed(configured(workspace, *given, "mask=all_int4", *overrides), RunConfig)
        evaluator = Sharing().evaluator(config, open_cache(config.cache))
        result = {DIGESTS: evaluator.recorded_digests([open_mask(config, evaluator.model.network)])}
        return [search.changed_input(result, is_final=False) for search in searches]

    assert changed() == [None, None]
    assert changed("calibration.num_recordings=3") == ["calibration recordings", None]
    assert changed("calibration.seed=5") == ["rounding recordings", None]
    trials.write_text("".join(lines[::-1]))
    assert changed() == ["trial list", "trial list"]


def test_layers_lie_under_the_module_that_is_searched(workspace: Workspace) -> None:
    one = fingerprint(workspace, "units=layer", space=layers("se_res2block1.res2_conv.convs.0"))
    block = fingerprint(workspace, "units=layer", space=layers("se_res2block1"))
    assert one["units"] == block["units"] == "layer"
    assert "se_res2block1.conv_out=fp32" in one[FIXED]
    assert "se_res2block1.res2_conv.convs.0=" not in one[FIXED]
    assert "se_res2block1" not in block[FIXED]
    assert "se_res2block2.conv_in=fp32" in block[FIXED]


def test_blocks_and_layers_are_not_compared(workspace: Workspace) -> None:
    blocks, layer = fingerprint(workspace), fingerprint(workspace, "units=layer")
    assert blocks["units"] != layer["units"]


@pytest.mark.parametrize(
    ("unit", "choices", "said"),
    [
        ("nonsense", ("fp32", "int8"), "mask.nonsense: unknown unit; this network has input_conv"),
        ("se_res2block1.conv_in", ("fp32", "int8"), "mask.se_res2block1.conv_in: unknown unit"),
        ("input_conv", ("fp32", "int9"), "mask.input_conv: unknown precision 'int9'"),
        ("input_conv", ("fp32", "fp16"), "mask.input_conv=fp16: the engine openvino does not run it"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_the_search(
    workspace: Workspace, unit: str, choices: tuple[str, ...], said: str
) -> None:
    space = Space({f"mask.{unit}": CategoricalDistribution(choices)})
    with pytest.raises(UserError) as caught:
        fingerprint(workspace, space=space)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    "goals",
    [
        Goals({"latency_ms_p50": "minimize"}),
        Goals({"eer": "minimize"}, {"latency_ms_p95": 10.0}),
    ],
)
def test_latency_must_be_measured_to_be_searched_by(workspace: Workspace, goals: Goals) -> None:
    with pytest.raises(
        UserError, match=r"engine\.latency_requests=0: .* set engine\.latency_requests"
    ) as caught:
        fingerprint(workspace, "engine.latency_requests=0", goals=goals)
    assert "\n" not in str(caught.value)
    few, many, *untimed = (
        fingerprint(workspace, f"engine.latency_requests={number}", goals=of)
        for of in (goals, SIZE)
        for number in (5, 10)
    )
    assert "machine" in few
    assert {name for name in few if few[name] != many[name]} == {"latency requests"}
    assert untimed[0] == untimed[1]


@pytest.mark.parametrize(
    ("setting", "others"),
    [
        ("scoring.false_accepts=[0.1]", "scoring.false_accepts=[0.5,0.1]"),
        ("scoring.p_targets=[0.01]", "scoring.p_targets=[0.01,0.05]"),
        ("engine.latency_requests=5", "engine.latency_requests=10"),
    ],
)
def test_a_final_evaluation_is_made_again_with_other_settings(
    workspace: Workspace, setting: str, others: str
) -> None:
    one, other = (
        MaskSearchApplication().final_fingerprint(configured(workspace, each)) for each in (setting, others)
    )
    assert len([name for name in one if one[name] != other[name]]) == 1


def test_a_final_evaluation_is_made_again_with_other_recordings(workspace: Workspace, tmp_path: Path) -> None:
    """Those of the same names and sizes, too."""
    corpus = shutil.copytree(workspace.corpus, tmp_path / "corpus")
    config = configured(workspace, f"data.root={corpus}")
    one = MaskSearchApplication().final_fingerprint(config)
    recording = next(corpus.rglob("*.wav"))
    recording.write_bytes(recording.read_bytes()[:-2] + b"\1\1")
    other = MaskSearchApplication().final_fingerprint(config)
    assert {name for name in one if one[name] != other[name]} == {"final recordings"}


def test_a_final_evaluation_is_timed_by_as_many_requests_as_are_set(workspace: Workspace) -> None:
    untimed, timed = (
        MaskSearchApplication().final_overrides(configured(workspace, f"engine.latency_requests={number}"))
        for number in (0, 3)
    )
    assert untimed == ["data.evaluate_on=test", "engine.latency_requests=20"]
    assert timed == ["data.evaluate_on=test"]


@pytest.mark.parametrize("name", ["size_ratio", "engine_size_bytes", "latency_ms_p50", "latency_ms_p95"])
def test_within_a_size_or_time_the_least_loss_decides(workspace: Workspace, name: str) -> None:
    """Whether it is a budget of ``front`` or a constraint of the sweeper."""
    objectives = {"engine_size_bytes": "minimize", "delta_eer": "minimize"}
    config = configured(workspace)
    for constraints, decides in (
        ({name: 0.12}, "delta_eer"),
        ({"delta_eer_high": 0.12}, "engine_size_bytes"),
    ):
        goals = MaskSearchApplication().goals(config, Goals(objectives, constraints))
        assert goals.deciding == decides


@pytest.mark.parametrize(
    ("name", "is_time"),
    [
        ("latency_ms_p50", True),
        ("real_time_factor", True),
        ("seconds.embedding", True),
        ("eer", False),
        ("min_dcf_0.05", False),
        ("delta_min_dcf_0.05_high", False),
        ("nonsense", False),
    ],
)
def test_times_are_known_by_the_description_of_results(name: str, is_time: bool) -> None:
    assert MaskSearchApplication().is_time(name) is is_time


def test_single_layers_can_be_searched(workspace: Workspace, speakerquant: Command, tmp_path: Path) -> None:
    searched = "se_res2block2.res2_conv.convs.0"
    finished = speakerquant(
        "experiment=search_int8",
        *workspace.arguments(),
        "engine=onnxruntime",
        "data.development_trials=null",
        "units=layer",
        "mask=paper",
        "space=none",
        f"mask.{searched}=choice(fp32,int8)",
    )
    assert finished.code == 0, finished.err
    masks = [result["mask"] for result in results(tmp_path)]
    assert sorted(mask[searched] for mask in masks) == ["fp32", "int8"]
    assert {mask["se_res2block1.conv_in"] for mask in masks} == {"int8"}, "as in the paper's mask"
    assert {mask["se_res2block2.conv_out"] for mask in masks} == {"fp32"}


def test_weights_of_few_bits_are_searched(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    others = [unit for unit in EcapaTdnn(EcapaTdnnConfig(channels=8)).units() if unit != "embedding_linear"]
    finished = speakerquant(
        "experiment=search",
        *workspace.arguments(),
        "engine=onnxruntime",
        "data.development_trials=null",
        *(f"mask.{unit}=int8" for unit in others),
    )
    assert finished.code == 0, finished.err
    found = {result["mask"]["embedding_linear"]: result["engine_size_bytes"] for result in results(tmp_path)}
    assert found["int2"] < found["int4"] < found["int8"]
    assert "front.delta_eer_high: 4 speakers are too few for an interval" in finished.out
