"""Runs that are shown together have names that tell them apart, by what their users chose."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from speakerquant.measuring.result import MaskRun
from speakerquant.report.multirun_report import smallest_without_loss
from speakerquant.report.run_names import comparable_runs, differing_settings, name_runs

from .conftest import MakeMask, MakeRun

ALL, NONE = {"unit": "int8"}, {"unit": "fp32"}
FOLDER = {"data": "folder", "data.root": "/corpora/here", "calibration": "max", "calibration.method": "max"}


def run(
    mask: Mapping[str, str] = ALL,
    settings: Mapping[str, str] | None = None,
    facts: Mapping[str, str] | None = None,
    made_with: Mapping[str, str] | None = None,
    command: str = "",
    failure: str | None = None,
) -> MaskRun:
    return MaskRun(
        dict(mask),
        {},
        failure,
        "as given",
        settings=FOLDER | (settings or {}),
        facts=facts or {},
        made_with=made_with or {},
        command=f"speakerquant {command}",
    )


def names(*runs: MaskRun) -> list[str]:
    return [each.name for each in name_runs(runs)]


def test_masks_alone_are_named_by_nothing_else() -> None:
    assert names(run(NONE), run(ALL)) == ["none", "all"]
    assert differing_settings([run(NONE), run(ALL)]) == []


def test_an_option_stands_for_what_it_brings_with_it() -> None:
    entropy = run(settings={"calibration": "entropy", "calibration.method": "entropy"})
    assert names(run(), entropy) == ["all · calibration=max", "all · calibration=entropy"]
    assert differing_settings([run(), entropy]) == ["calibration"]


def test_a_setting_that_was_given_is_named_beside_the_option_that_differs_with_it() -> None:
    first = run(settings={"calibration.seed": "0"}, command="calibration=max calibration.seed=0")
    second = run(
        settings={"calibration": "entropy", "calibration.method": "entropy", "calibration.seed": "1"},
        command="'calibration=entropy' +calibration.seed=1",
    )
    assert names(first, second) == [
        "all · calibration=max · calibration.seed=0",
        "all · calibration=entropy · calibration.seed=1",
    ]


def test_a_setting_that_no_option_explains_is_named_where_it_was_not_given_too() -> None:
    assert names(run(), run(settings={"data.channel": "1"})) == [
        "all · data.channel=null",
        "all · data.channel=1",
    ]


def test_paths_are_cut_to_what_tells_them_apart() -> None:
    lists = [run(settings={"data.trials": f"/corpora/{name}"}) for name in ("a/list", "b/list", "c/other")]
    assert names(*lists) == [f"all · data.trials={end}" for end in ("a/list", "b/list", "c/other")]
    assert names(*lists[1:]) == ["all · data.trials=list", "all · data.trials=other"]


def test_a_digest_is_named_only_if_no_setting_explains_it() -> None:
    checkpoints = [{"checkpoint": digit * 32} for digit in "01"]
    seeds = [run(settings={"model.seed": made["checkpoint"][0]}, made_with=made) for made in checkpoints]
    assert names(*seeds) == ["all · model.seed=0", "all · model.seed=1"]
    overwritten = [run(made_with=made) for made in checkpoints]
    assert names(*overwritten) == [f"all · checkpoint {digit * 12}" for digit in "01"]
    calibrated = [
        run(settings={"calibration": name, "calibration.method": name}, made_with=made)
        for name, made in zip(("max", "mse"), checkpoints, strict=True)
    ]
    assert names(*calibrated) == [
        f"all · calibration={name} · checkpoint {digit * 12}" for name, digit in (("max", "0"), ("mse", "1"))
    ]


def test_repeated_runs_are_numbered() -> None:
    assert names(run(), run(NONE), run()) == ["all · run 1", "none", "all · run 2"]


def test_equal_runs_of_several_multiruns_say_of_which_they_are() -> None:
    first, second = ([replace(each, multirun=digit * 32) for each in (run(NONE), run(ALL))] for digit in "01")
    assert names(*first) == ["none", "all"]
    assert names(*first, *second[:1]) == ["none · multirun 00000000", "all", "none · multirun 11111111"]
    assert names(*first[:1], *second[:1] * 2)[1:] == [
        f"none · multirun 11111111 · run {number}" for number in (1, 2)
    ]


def test_a_run_of_an_earlier_version_says_nothing_of_its_options() -> None:
    earlier = run()
    old = {name: value for name, value in earlier.settings.items() if "." in name}
    assert names(MaskRun(ALL, {}, None, settings=old), run(NONE)) == ["all", "none"]


def test_lists_part_and_networks_do_not() -> None:
    runs = [
        run(
            mask,
            {"data": data, "model": model},
            {"trial list": data, "score normalisation": "none"},
            {"checkpoint": model},
        )
        for data in ("o", "e")
        for model in ("ecapa", "campplus")
        for mask in (NONE, ALL)
    ]
    groups = comparable_runs(name_runs(runs))
    assert [group.words for group in groups] == [("data=o",), ("data=e",)]
    expected = ["none · model=ecapa", "all · model=ecapa", "none · model=campplus", "all · model=campplus"]
    for group in groups:
        assert [each.name for each in group.runs] == expected


def test_a_list_that_was_changed_in_place_parts_too() -> None:
    groups = comparable_runs(name_runs([run(facts={"trial list": digit * 32}) for digit in "01"]))
    assert [group.words for group in groups] == [(f"trial list {digit * 12}",) for digit in "01"]
    assert [each.name for group in groups for each in group.runs] == ["all", "all"]


def test_a_failed_run_is_shown_with_those_of_its_list() -> None:
    runs = [
        run(NONE, {"data": "o"}, {"trial list": "o"}),
        run(NONE, {"data": "e"}, {"trial list": "e"}),
        run({}, {"data": "e"}, failure="unknown mask"),
    ]
    first, second = comparable_runs(name_runs(runs))
    assert [each.name for each in first.runs] == ["none"]
    assert [each.name for each in second.runs] == ["none", "as given"]
    assert len(second.finished) == 1


@pytest.mark.parametrize(("group", "fact"), [("data", "trial list"), ("model", "checkpoint")])
def test_the_smallest_without_loss_is_found_for_each_list_and_network(
    make_mask: MakeMask, make_run: MakeRun, group: str, fact: str
) -> None:
    runs = []
    for option, low in (("first", -0.1), ("second", 0.1)):
        for made in (make_run(make_mask(), 0.0, 1.0), make_run(make_mask("input_conv"), low, 0.9)):
            metrics = made.metrics | {"delta_eer_low": made.metrics["delta_eer"]}
            about = {"facts" if group == "data" else "made_with": {fact: option}}
            runs.append(MaskRun(made.mask, metrics, None, settings={group: option}, **about))
    assert [each.name for each in smallest_without_loss(runs)] == [
        f"input_conv · {group}=first",
        f"none · {group}=second",
    ]
