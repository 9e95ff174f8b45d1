"""Reports of runs that may be compared, and of runs that may not: each in one report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speakerquant.errors import UserError
from speakerquant.measuring.result import UNFINISHED, MaskRun
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.report.comparison import ScoredRun, compare_runs
from speakerquant.report.html_report import write_html, write_markdown
from speakerquant.report.networks import with_differences

from .conftest import MakeMask, MakeRun

FACTS = {"recordings": "0123456789abcdef", "trial list": "fedcba9876543210"}


@pytest.fixture
def runs(make_mask: MakeMask, make_run: MakeRun) -> list[MaskRun]:
    ends = {"delta_eer_low": -0.05, "delta_eer_high": 0.07}
    made = [
        make_run(make_mask(), 0.0, 1.0, latency=34.4),
        make_run(make_mask("input_conv"), 0.25, 0.9583, latency=30.1),
        make_run(make_mask(embedding_linear="int4"), -0.125, 0.9),
        make_run(make_mask(embedding_linear="int4", input_conv="int2"), 0.5, 0.8),
    ]
    return [
        replace(
            run, name=f"run{number}", metrics=run.metrics | ends, facts=FACTS, command=f"command {number}"
        )
        for number, run in enumerate(made)
    ]


def scored(runs: list[MaskRun]) -> list[ScoredRun]:
    labels = np.arange(400) % 4 == 0
    generator = np.random.default_rng(0)
    return [
        ScoredRun(run, (generator.standard_normal(400) + 2 * labels).astype(np.float32), labels)
        for run in runs
    ]


def test_every_run_and_every_unit_alone_is_in_the_tables(runs: list[MaskRun]) -> None:
    report = compare_runs("title", scored(runs))
    [section] = report.sections
    all_runs, alone = section.tables
    assert [row[0] for row in all_runs.rows] == [
        "none",
        "input_conv",
        "int4: embedding_linear",
        "int2: input_conv; int4: embedding_linear",
    ]
    assert all_runs.rows[1][1:5] == ["1.250", "+0.250 [-0.050, +0.070]", "57.498", "0.958"]
    assert "1.660" in all_runs.rows[1], "the paper's"
    assert [row[:2] for row in alone.rows] == [["input_conv", "int8"], ["embedding_linear", "int4"]]
    assert alone.rows[0][2:] == ["2.502", "+0.250 [-0.050, +0.070]"]
    assert report.commands["input_conv"] == "command 1"
    assert report.facts == FACTS


def test_pictures_show_what_there_is(runs: list[MaskRun]) -> None:
    [section] = compare_runs("title", scored(runs)).sections
    pictures = section.pictures
    assert len(pictures) == 4
    [latency] = pictures["Latency and size"].series
    assert len(latency.marks) == 2, "two were not timed"
    curves = pictures["Detection error trade-off"].series
    assert [series.name for series in curves] == [row[0] for row in section.tables[0].rows]
    for series in curves:
        assert (np.diff([mark.x for mark in series.marks]) <= 0).all()
        assert (np.diff([mark.y for mark in series.marks]) >= 0).all()
    [without] = compare_runs("title", [ScoredRun(run) for run in runs]).sections
    assert "Detection error trade-off" not in without.pictures


def test_curves_are_drawn_in_full_where_there_are_few_target_trials(runs: list[MaskRun]) -> None:
    labels = np.arange(100_000) % 500 == 0
    scores = (np.random.default_rng(0).standard_normal(100_000) + 3 * labels).astype(np.float32)
    [section] = compare_runs("title", [ScoredRun(runs[0], scores, labels)]).sections
    [series] = section.pictures["Detection error trade-off"].series
    steps = np.hypot(*np.diff([(mark.x, mark.y) for mark in series.marks], axis=0).T)
    assert len(series.marks) > 50 and steps.max() < 0.5
    assert max(mark.x for mark in series.marks) == pytest.approx(0, abs=0.1), (
        "up to half of all, on both axes"
    )
    assert max(mark.y for mark in series.marks) == pytest.approx(0, abs=0.1)


def test_runs_on_another_list_have_tables_and_pictures_of_their_own(runs: list[MaskRun]) -> None:
    facts = {**FACTS, "trial list": "another"}
    others = [replace(run, facts=facts, settings={"data": "voxceleb1_e"}) for run in runs[:2]]
    runs = [replace(run, settings={"data": "voxceleb1_o"}) for run in runs]
    report = compare_runs("title", scored([*runs, *others]))
    assert [section.title for section in report.sections] == ["data=voxceleb1_o", "data=voxceleb1_e"]
    first, second = report.sections
    assert [row[0] for row in second.tables[0].rows] == ["none", "input_conv"], "the list is said once"
    assert len(first.tables[0].rows) == 4
    [_, *measured] = first.pictures["Size and error"].series
    assert {mark.label for series in measured for mark in series.marks} >= {"none", "int4: embedding_linear"}
    curves = second.pictures["Detection error trade-off"].series
    assert [series.name for series in curves] == ["none", "input_conv"]
    assert report.facts["trial list"] == "fedcba9876543210 (data=voxceleb1_o), another (data=voxceleb1_e)"
    assert [*report.commands][-1] == "input_conv · data=voxceleb1_e"


def test_a_precision_has_one_color_in_all_pictures_and_gray_is_the_baselines(runs: list[MaskRun]) -> None:
    others = [replace(run, facts={**FACTS, "trial list": "another"}) for run in runs[1:2]]
    sections = compare_runs("title", scored([runs[3], runs[2], runs[0], *others])).sections
    colors: dict[str, set[str]] = {}
    for section in sections:
        for name in ("Size and error", "Loss and bytes saved, each unit alone"):
            for series in section.pictures[name].series if name in section.pictures else ():
                colors.setdefault(series.name.removesuffix(" here"), set()).add(series.style.color)
    own = {name: shown for name, shown in colors.items() if name in {"fp32", "int8", "int4", "int2 and int4"}}
    assert own.pop("fp32") == {"gray"}
    assert len(own) == 3 and all(len(shown) == 1 for shown in own.values())
    assert len(set.union(*own.values()) - {"gray"}) == 3


def test_networks_on_one_list_share_table_and_picture(runs: list[MaskRun]) -> None:
    shown = [
        replace(run, settings={"model": model}, made_with={"checkpoint": model})
        for model in ("shipped", "campplus")
        for run in runs[:2]
    ]
    report = compare_runs("title", scored(shown))
    [section] = report.sections
    masks = ("none", "input_conv")
    names = [f"{mask} · model={model}" for model in ("shipped", "campplus") for mask in masks]
    for table, expected in zip(section.tables, (names, names[1::2]), strict=True):
        assert [row[0] for row in table.rows] == expected
    assert [*report.commands] == names
    assert [each.name for each in section.pictures["Detection error trade-off"].series] == names
    drawn = section.pictures["Size and error"]
    assert (drawn.x_label, drawn.y_label) == ("size MB", "EER %")
    assert {series.name: [mark.label for mark in series.marks] for series in drawn.series} == {
        "model=shipped": [*masks],
        "model=campplus": [*masks],
    }


def test_networks_are_compared_with_the_first_ones_fp32_on_the_same_draws(runs: list[MaskRun]) -> None:
    draws = np.random.default_rng(0).normal(1.0, 0.5, 1000)
    shown, drawn = [], []
    for model, worse in (("shipped", 0.0), ("campplus", 0.3)):
        for run in runs[:2]:
            metrics = {**run.metrics, "eer": run.metrics["eer"] + worse}
            run = replace(run, metrics=metrics, settings={"model": model}, made_with={"checkpoint": model})
            shown.append(run)
            drawn.append({"eer": draws + metrics["eer"]})
    [section] = compare_runs("title", scored(with_differences(shown, drawn))).sections
    headings, rows = section.tables[0].headings, section.tables[0].rows
    place = headings.index("ΔEER to none · model=shipped %")
    first, _, other, both = [row[place] for row in rows]
    assert first == "+0.000 [+0.000, +0.000]"
    assert other == "+0.300 [+0.300, +0.300]", "the spread of the draws is that of both, and cancels out"
    loss = shown[1].metrics["eer"] - shown[0].metrics["eer"]
    assert both.startswith(f"{0.3 + loss:+.3f}")

    [section] = compare_runs("title", scored(with_differences(shown, [None] * 4))).sections
    assert {row[place] for row in section.tables[0].rows} == {"-"}, "earlier versions kept no draws"
    [section] = compare_runs("title", scored(with_differences(shown[1:], drawn[1:]))).sections
    assert not any("none · " in heading for heading in section.tables[0].headings)


def test_ranges_are_shown_for_each_way_of_calibrating(runs: list[MaskRun]) -> None:
    kept = [
        replace(
            each,
            run=replace(each.run, settings={"calibration": method}),
            ranges=CalibrationTable(method, {"layer": amax}, {"layer": np.array([1.0], np.float32)}),
        )
        for method, amax in (("max", 4.0), ("entropy", 3.0))
        for each in scored(runs[:2])
    ]
    report = compare_runs("title", kept)
    assert [section.title for section in report.ranges] == ["calibration=max", "calibration=entropy"]
    assert [section.tables[0].rows[0][:2] for section in report.ranges] == [["layer", "4"], ["layer", "3"]]
    [alone] = compare_runs("title", kept[:2]).ranges
    assert alone.title == ""


def test_a_multirun_without_finished_runs_is_refused(runs: list[MaskRun]) -> None:
    with pytest.raises(UserError, match="none of its 1 runs finished"):
        compare_runs("title", [ScoredRun(replace(runs[0], failure="broken"))])


def test_page_and_markdown_say_what_they_do_not_show(runs: list[MaskRun], tmp_path: Path) -> None:
    failed = replace(runs[1], metrics={}, failure="the engine\nbroke at <id>")
    running = replace(runs[2], metrics={}, failure=UNFINISHED)
    gone = "run=0123: 2 of its runs were deleted"
    report = compare_runs("title", scored([runs[0], failed, running, runs[3]]), missing=[gone])
    write_html(report, tmp_path / "report.html")
    write_markdown(report, tmp_path / "report.md")
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    for line in (
        gone,
        "input_conv: failed: the engine broke at &lt;id",
        f"int4: embedding_linear: {UNFINISHED}",
    ):
        assert f"<li>{line}" in page and f"- {line}" in text
    assert [row[0] for row in report.sections[0].tables[0].rows] == [
        "none",
        "int2: input_conv; int4: embedding_linear",
    ]
    complete = compare_runs("title", scored(runs))
    write_markdown(complete, tmp_path / "report.md")
    assert "Not shown" not in (tmp_path / "report.md").read_text()


def test_a_group_may_be_called_anything(runs: list[MaskRun], tmp_path: Path) -> None:
    numbers = {f"groups.female|f.{name}": 1.0 for name in ("eer", "delta_eer")}
    write_markdown(
        compare_runs("title", [ScoredRun(replace(runs[1], metrics=runs[1].metrics | numbers))]),
        tmp_path / "report.md",
    )
    assert r"| input_conv | female\|f | 1.000 |" in (tmp_path / "report.md").read_text()


def test_page_and_markdown_hold_the_same_numbers(runs: list[MaskRun], tmp_path: Path) -> None:
    report = compare_runs("a <title>", scored(runs))
    write_html(report, tmp_path / "report.html")
    write_markdown(report, tmp_path / "report.md")
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "a &lt;title&gt;" in page
    for table in report.sections[0].tables:
        for row in table.rows:
            assert f"| {' | '.join(row)} |" in text
            assert "".join(f"<td>{cell}</td>" for cell in row) in page
    assert "<script src=" not in page, "it needs no network"
