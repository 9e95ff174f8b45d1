"""``experiment=front``: the front of real engines, most of whose masks are only predicted."""

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Command, Finished, Workspace, development_list, results

pytestmark = pytest.mark.slow

CHOICES = [f"mask.{unit}=choice(int8,int2)" for unit in ("aggregation_conv", "embedding_linear")]
FIXED = ("input_conv", "se_res2block1", "se_res2block2", "se_res2block3", "attentive_pooling")


def arguments(workspace: Workspace, name: str, *more: str) -> list[str]:
    return [
        "experiment=front",
        *workspace.arguments(),
        f"data.development_trials={development_list(workspace)}",
        f"tracking.experiment={name}",
        f"hydra.sweeper.study_name={name}",
        "front.delta_eer_high=null",  # four speakers show nothing
        *(f"mask.{unit}=int8" for unit in FIXED),
        *CHOICES,
        *more,
    ]


def front_in(folder: Path) -> dict[str, Any]:
    [path] = sorted(folder.glob("multirun/*/*/front.json"))[-1:]
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def assert_one_line(finished: Finished, *said: str) -> None:
    assert finished.code == 2
    assert finished.err.strip().count("\n") == 0 or finished.err.splitlines()[-1].startswith("error:")
    for words in said:
        assert words in finished.err


def test_a_stopped_front_goes_on_and_says_what_was_predicted(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    bound = "+hydra.sweeper.constraints.swap.voiceprints_flips_at_eer=100"
    stopped = speakerquant(*arguments(workspace, "front", bound, "hydra.sweeper.n_trials=2"))
    assert stopped.code == 0, stopped.err
    assert "hydra.sweeper.n_trials=2 is used up, and 2 points or more" in stopped.out + stopped.err
    finished = speakerquant(*arguments(workspace, "front", bound))
    assert finished.code == 0, finished.err
    assert "is used up" not in finished.out + finished.err
    masks = [str(each["mask"]) for each in results(tmp_path) if each["trial_list"] == "development"]
    assert len({*masks}) == len(masks) == 4, "none is measured again"
    front = front_in(tmp_path)
    [both] = [each for each in front["front"] if [*each["point"].values()].count("int2") == 2]
    said, found = both["predicted"], both["result"]
    assert said["engine_size_bytes"] == pytest.approx(found["engine_size_bytes"], rel=0.005)
    assert abs(said["delta_eer"] - found["delta_eer"]) <= said["delta_eer_error"]
    assert 0 <= said["swap.voiceprints_flips_at_eer"] <= 100
    assert front["recommended"]["final_result"]["trial_list"] == "test"
    [picture] = sorted(tmp_path.glob("multirun/*/*/alone.html"))[-1:]
    for unit in ("aggregation_conv", "embedding_linear"):
        assert unit in picture.read_text(), "what each unit alone does is drawn"


def test_a_front_of_one_unit_is_all_of_its_masks(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    more = ("mask.embedding_linear=int8", "engine=onnxruntime", "data.development_trials=null")
    finished = speakerquant(*(each for each in arguments(workspace, "unit", *more) if each != CHOICES[1]))
    assert finished.code == 0, finished.err
    assert sorted(each["mask"]["aggregation_conv"] for each in results(tmp_path)) == ["int2", "int8"]


def test_a_refused_front_leaves_no_open_run(workspace: Workspace, speakerquant: Command) -> None:
    refused = speakerquant(*arguments(workspace, "refused", "front.delta_eer_high=0.07"))
    assert_one_line(refused, "front.delta_eer_high: 4 speakers are too few")
    tracking = workspace.tracking_of("refused")
    assert [*tracking.client.search_runs([tracking.experiment_id])] == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["front.worst_group_delta_eer_high=0.3"],
            ["front.worst_group_delta_eer_high: 4 speakers are too few", "worst_group_delta_eer_high=null"],
        ),
        (
            ["+hydra.sweeper.constraints.swap.delta_far_at_eer_high=0.2"],
            ["constraints.swap.delta_far_at_eer_high: 4 speakers are too few", "leave this bound out"],
        ),
        (["front.latency_ms=10"], ["engine.latency_requests=0: latency_ms_p50 is a goal"]),
        (["rounding=choice(gptq,nearest)"], ["rounding: a front is of precisions of units"]),
        (["+hydra.sweeper.objectives.fidelity=maximize"], ["a front is of engine_size_bytes and delta_eer"]),
        (
            ["+hydra.sweeper.objectives.swap.voiceprints_eer=minimize"],
            ["a front is of engine_size_bytes and delta_eer", "hydra.sweeper.constraints"],
        ),
    ],
)
def test_a_mistake_is_one_line(
    workspace: Workspace, speakerquant: Command, more: list[str], said: list[str]
) -> None:
    assert_one_line(speakerquant(*arguments(workspace, "mistaken", *more)), *said)
