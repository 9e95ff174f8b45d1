"""Reports of runs that may be compared, and of runs that may not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speakerquant.errors import UserError
from speakerquant.measuring.result import MaskRun
from speakerquant.report.comparison import ScoredRun, compare_runs
from speakerquant.report.html_report import write_html, write_markdown

from .conftest import MakeMask, MakeRun

FACTS = {"checkpoint": "0123456789abcdef", "trial list": "fedcba9876543210"}


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
    all_runs, alone = report.tables
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
    assert report.commands["run1"] == "command 1"
    assert report.facts == FACTS


def test_pictures_show_what_there_is(runs: list[MaskRun]) -> None:
    pictures = compare_runs("title", scored(runs)).pictures
    assert len(pictures) == 4
    [latency] = pictures["Latency and size"].series
    assert len(latency.marks) == 2, "two were not timed"
    curves = pictures["Detection error trade-off"].series
    assert [series.name for series in curves] == [run.name for run in runs]
    for series in curves:
        assert (np.diff([mark.x for mark in series.marks]) <= 0).all()
        assert (np.diff([mark.y for mark in series.marks]) >= 0).all()
    without = compare_runs("title", [ScoredRun(run) for run in runs]).pictures
    assert "Detection error trade-off" not in without


def test_runs_on_other_data_are_refused(runs: list[MaskRun]) -> None:
    other = replace(runs[1], facts={**FACTS, "trial list": "another"})
    with pytest.raises(
        UserError, match="runs of another trial list are not compared: run0 has fedcba987654, run1"
    ):
        compare_runs("title", scored([runs[0], other]))


def test_a_multirun_without_finished_runs_is_refused(runs: list[MaskRun]) -> None:
    with pytest.raises(UserError, match="none of its 1 runs finished"):
        compare_runs("title", [ScoredRun(replace(runs[0], failure="broken"))])


def test_page_and_markdown_hold_the_same_numbers(runs: list[MaskRun], tmp_path: Path) -> None:
    report = compare_runs("a <title>", scored(runs))
    write_html(report, tmp_path / "report.html")
    write_markdown(report, tmp_path / "report.md")
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "a &lt;title&gt;" in page
    for table in report.tables:
        for row in table.rows:
            assert f"| {' | '.join(row)} |" in text
            assert "".join(f"<td>{cell}</td>" for cell in row) in page
    assert "<script src=" not in page, "it needs no network"
