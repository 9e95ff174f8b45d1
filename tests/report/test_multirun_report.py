"""The table and the picture that end a multirun."""

import itertools
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from toy_network import TOY

from speakerquant.measuring.result import UNFINISHED, MaskRun
from speakerquant.report.multirun_report import draw_runs, print_runs
from speakerquant.report.run_words import runs_table
from speakerquant.report.table import Column, Row, print_table

from .conftest import UNITS, MakeMask, MakeRun, drawn


@pytest.fixture
def runs(make_mask: MakeMask, make_run: MakeRun) -> list[MaskRun]:
    return [
        make_run(make_mask(), 0.0, 1.0, latency=34.41),
        make_run(make_mask("input_conv"), 0.25, 0.9583),
        MaskRun(make_mask("se_res2block1"), {}, "the engine broke [/dev/null]"),
        MaskRun({}, {}, "mask.typo: unknown unit", name="typo=int8"),
    ]


def test_runs_that_go_on_have_not_failed(
    runs: list[MaskRun], make_mask: MakeMask, capsys: pytest.CaptureFixture[str]
) -> None:
    print_runs([runs[0], MaskRun(make_mask("input_conv"), {}, UNFINISHED)], "title")
    printed = capsys.readouterr().out
    assert "input_conv: not finished yet" in printed
    assert "running" in printed and "failed" not in printed


def test_table_puts_ours_beside_the_papers_and_shows_failures(
    runs: list[MaskRun], capsys: pytest.CaptureFixture[str]
) -> None:
    print_runs(runs, "title")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "title"
    place = next(index for index, line in enumerate(lines) if "quantized units" in line)
    above, below = (line.strip().strip("┃").split("┃") for line in lines[place - 1 : place + 1])
    headings = [
        f"{first.strip()} {second.strip()}".strip() for first, second in zip(above, below, strict=True)
    ]
    shared = ["EER %", "ΔEER %", "size MB", "size ratio"]
    papers = [f"paper's {heading}" for heading in shared]
    assert headings == ["quantized units", *shared, "latency ms", *papers]
    row = next(line for line in lines if "input_conv" in line and "1.250" in line)
    for cell in ("+0.250", "57.498", "0.958", "1.660", "-0.005", "60.413", "0.950"):
        assert cell in row
    assert any("none" in line and "34.4" in line and "63.571" in line for line in lines)
    assert any("se_res2block1" in line and "failed" in line for line in lines)
    assert any("the engine broke [/dev/null]" in line for line in lines)
    described = runs_table(runs).splitlines()
    assert described[-2:] == [
        "- se_res2block1: failed: the engine broke [/dev/null]",
        "- typo=int8: failed: mask.typo: unknown unit",
    ]


def test_wide_tables_are_folded_on_terminals_alone_and_numbers_nowhere(
    make_mask: MakeMask,
    make_run: MakeRun,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss = {"delta_eer_low": -0.05, "delta_eer_high": 0.07}
    runs = [
        replace(run, metrics=run.metrics | loss, made_with={"checkpoint": model}, settings={"model": model})
        for model in ("a_network_with_quite_a_name", "another_with_an_even_longer_name")
        for run in (make_run(make_mask(), 0.0, 1.0), make_run(make_mask(*UNITS[:5]), 0.25, 0.9583))
    ]
    name = "all but attentive_pooling, embedding_linear · model=another_with_an_even_longer_name"

    def printed() -> str:
        print_runs(runs, "title")
        return capsys.readouterr().out

    assert f"│ {name} │ 1.250 │ +0.250 [-0.050, +0.070] │" in printed()
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which Rich takes it for a terminal
    monkeypatch.setenv("COLUMNS", "80")
    on_terminal = printed()
    assert name not in on_terminal
    assert on_terminal.count(" +0.250 [-0.050, +0.070] │") == 2


def test_a_terminal_without_room_for_a_table_loses_nothing_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    numbers = [
        Column(f"ΔEER to /data/networks/of/ours/epoch_{number}.ckpt", is_number=True) for number in range(8)
    ]
    print_table("title", [Column("mask"), *numbers], [Row(["all", *["+0.250 [-0.050, +0.070]"] * 8])])
    [row] = [line for line in capsys.readouterr().out.splitlines() if "0.250" in line]
    assert "all" in row
    assert row.count(" +0.250 [-0.050, +0.070] ") == 8


def test_a_run_whose_mask_is_unknown_goes_by_its_name(
    runs: list[MaskRun], capsys: pytest.CaptureFixture[str]
) -> None:
    print_runs(runs, "title")
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if "typo=int8" in line and "│" in line)
    assert "1.665" not in row, "the paper's baseline is not this run's mask"
    assert "failed typo=int8: mask.typo: unknown unit" in lines


@pytest.mark.parametrize("latency", [None, 12.34])
def test_a_latency_that_was_not_measured_is_a_dash(
    make_mask: MakeMask, make_run: MakeRun, latency: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(make_mask("input_conv", "aggregation_conv"), 0.25, 0.9583, latency)
    print_runs([make_run(make_mask(), 0.0, 1.0), run], "title")
    row = next(line for line in capsys.readouterr().out.splitlines() if "input_conv" in line)
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert cells[5] == ("-" if latency is None else "12.3")
    assert cells[6:] == ["-"] * 4, "the paper did not measure this mask"


def test_every_finished_run_is_drawn_with_its_name_and_its_paper_result(runs: list[MaskRun]) -> None:
    picture = drawn(runs)
    ours = {series.name: series.marks for series in picture.series if series.name.endswith("here")}
    assert {name: [(mark.label, mark.x, mark.y) for mark in marks] for name, marks in ours.items()} == {
        "fp32 here": [("none", 1.0, 0.0)],
        "int8 here": [("input_conv", 0.9583, 0.25)],
    }
    [paper] = [series for series in picture.series if series.name == "paper, same mask"]
    assert [round(mark.x, 3) for mark in paper.marks] == [1.0, 0.95]
    assert (picture.x_label, picture.y_label) == ("size ratio", "ΔEER %")


def test_where_names_are_long_the_baseline_and_those_on_the_front_are_labelled_and_all_named_on_hovering(
    make_mask: MakeMask, make_run: MakeRun
) -> None:
    others = [*itertools.combinations(UNITS, 3), *itertools.combinations(UNITS, 6)][:38]
    runs = [
        *(make_run(make_mask(), 0.0, 1.0) for _ in range(2)),  # at one place
        make_run(make_mask("input_conv"), -0.01, 0.95),
        *(make_run(make_mask(*units), 0.01 * number, 0.96) for number, units in enumerate(others)),
    ]
    few, many = (
        [mark for series in drawn(these).series if series.name.endswith("here") for mark in series.marks]
        for these in (runs[1:20], runs)
    )
    assert len(few) == 19 and all(mark.label for mark in few)
    assert [mark.label.partition(" ")[0] for mark in many if mark.label] == ["none", "input_conv"]
    assert len({mark.text for mark in many}) == 41


def test_nothing_is_shown_of_a_publication_on_another_network(
    runs: list[MaskRun], make_mask: MakeMask, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    toys = [make_run({"frames": precision}, 0.0, 1.0, architecture=TOY) for precision in ("fp32", "int8")]
    print_runs(toys, "title")
    printed = capsys.readouterr().out
    assert "EER %" in printed
    for words in (printed, runs_table(toys), str(drawn(toys))):
        assert "paper" not in words
    assert "paper's EER %" in runs_table(runs)


def test_runs_on_different_lists_are_apart_in_table_description_and_picture(
    make_mask: MakeMask, make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        replace(made, settings={"data": name, "calibration": method}, facts={"trial list": name})
        for name in ("voxceleb1_o", "voxceleb1_e")
        for method in ("max", "entropy")
        for made in (make_run(make_mask(), 0.0, 1.0), make_run(make_mask("input_conv"), 0.25, 0.9583))
    ]
    print_runs(runs, "title")
    printed = capsys.readouterr().out
    for words in (printed, runs_table(runs)):
        assert words.count("data=voxceleb1_o") == words.count("data=voxceleb1_e") == 1
        assert words.count("input_conv · calibration=entropy") == 2
    draw_runs(runs[:4], tmp_path / "one.png")
    draw_runs(runs, tmp_path / "two.png")
    one, two = (matplotlib.image.imread(tmp_path / f"{name}.png") for name in ("one", "two"))
    assert two.shape[0] >= 2 * one.shape[0]


def test_it_is_said_whose_engines_were_not_run(
    make_mask: MakeMask, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_run(make_mask(), 0.0, 1.0)
    built = replace(made, settings={"engine": "tensorrt_rtx"}, scores_from="onnxruntime")
    print_runs([replace(made, settings={"engine": "openvino"}), built], "title")
    assert "engine=tensorrt_rtx · engines built, not run" in capsys.readouterr().out


def test_picture_is_drawn(runs: list[MaskRun], tmp_path: Path) -> None:
    draw_runs(runs, str(tmp_path / "plot.png"))
    image = matplotlib.image.imread(tmp_path / "plot.png")
    assert image.shape[0] > 500
    assert np.unique(image[..., :3].reshape(-1, 3), axis=0).shape[0] > 10
