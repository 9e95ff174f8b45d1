"""What is said of masks that take FP32's place."""

from dataclasses import replace

import pytest

from speakerquant.measuring.result import MaskRun
from speakerquant.report.comparison import ScoredRun, compare_runs
from speakerquant.report.multirun_report import print_runs
from speakerquant.report.run_words import run_words

from .conftest import MakeMask, MakeRun


def swapped(run: MaskRun, *, frr: float, far: float, voiceprints: float) -> MaskRun:
    """A run in whose place these rates rise by so much, each with an interval of ±0.2."""
    numbers = {"flips_at_eer": 1.5, "delta_cllr": 0.01}
    for name, rise, baseline in (
        ("frr_at_eer", frr, 2.0),
        ("far_at_eer", far, 2.1),
        ("voiceprints_eer", voiceprints, 2.2),
    ):
        numbers |= {name: baseline + rise, f"baseline_{name}": baseline, f"delta_{name}": rise}
        numbers |= {f"delta_{name}_low": rise - 0.2, f"delta_{name}_high": rise + 0.2}
    return replace(run, metrics=run.metrics | {f"swap.{name}": value for name, value in numbers.items()})


@pytest.fixture
def runs(make_mask: MakeMask, make_run: MakeRun) -> list[MaskRun]:
    none, conv, linear = make_mask(), make_mask("input_conv"), make_mask(embedding_linear="int2")
    return [
        swapped(make_run(none, 0.0, 1.0), frr=0.0, far=0.0, voiceprints=0.0),
        swapped(make_run(conv, 0.01, 0.9), frr=0.1, far=-0.1, voiceprints=0.21),
        swapped(make_run(linear, 0.02, 0.8), frr=-0.5, far=0.7, voiceprints=0.3),
    ]


def test_a_sentence_says_what_can_stay(runs: list[MaskRun], capsys: pytest.CaptureFixture[str]) -> None:
    print_runs(runs, "runs")
    said = [line for line in capsys.readouterr().out.splitlines() if "FP32's" in line]
    assert said == [
        "input_conv: FP32's threshold can stay (false rejects 2.000 -> 2.100 %, "
        "false accepts 2.100 -> 2.000 %, 1.500 % of decisions flip); "
        "FP32's voiceprints can stay (EER 2.410 instead of 2.200 %, +0.210 [+0.010, +0.410])",
        "int2: embedding_linear: FP32's threshold must be set anew (false rejects 2.000 -> 1.500 %, "
        "false accepts 2.100 -> 2.800 %, 1.500 % of decisions flip); "
        "FP32's voiceprints must be made anew (EER 2.500 instead of 2.200 %, +0.300 [+0.100, +0.500])",
    ]
    assert "FP32's threshold can stay" in run_words(runs[1])


def test_the_report_has_a_table_of_it(runs: list[MaskRun]) -> None:
    [section] = compare_runs("masks", [ScoredRun(run) for run in runs]).sections
    [table] = [table for table in section.tables if table.title == "Swapping it in"]
    assert table.headings[1] == "Δfalse rejects at FP32's EER threshold %"
    assert table.headings[-1] == "ΔCllr bits", "what no run has, is no column"
    assert [row[1] for row in table.rows] == [
        "+0.000 [-0.200, +0.200]",
        "+0.100 [-0.100, +0.300]",
        "-0.500 [-0.700, -0.300]",
    ]


def test_a_calibration_fitted_anew_is_beside_the_one_that_is_kept(runs: list[MaskRun]) -> None:
    refitted = [
        replace(run, metrics=run.metrics | {"swap.delta_refitted_cllr": 0.002, "swap.refitted_cllr": 0.3})
        for run in runs
    ]
    [section] = compare_runs("masks", [ScoredRun(run) for run in refitted]).sections
    [table] = [table for table in section.tables if table.title == "Swapping it in"]
    assert table.headings[-2:] == ["ΔCllr bits", "ΔCllr, calibrated anew bits"]
    assert [row[-2:] for row in table.rows] == [["+0.010", "+0.002"]] * 3


def test_the_report_shows_for_whom_masks_lose(make_mask: MakeMask, make_run: MakeRun) -> None:
    none, conv = make_run(make_mask(), 0.0, 1.0), make_run(make_mask("input_conv"), 0.01, 0.9)
    grouped = [
        replace(
            run,
            metrics=run.metrics
            | {
                f"groups.{group}.{name}": value
                for group, loss in (("sex f", 0.4), ("sex m", 0.1))
                for name, value in (
                    ("eer", 2.0),
                    *(("delta_eer", loss), ("delta_eer_low", loss - 0.2), ("delta_eer_high", loss + 0.2)),
                )
            },
        )
        for run in (none, conv)
    ]
    [section] = compare_runs("masks", [ScoredRun(run) for run in grouped]).sections
    [table] = [table for table in section.tables if table.title == "For whom it loses"]
    assert [row[:4] for row in table.rows] == [
        ["input_conv", "sex f", "2.000", "+0.400 [+0.200, +0.600]"],
        ["input_conv", "sex m", "2.000", "+0.100 [-0.100, +0.300]"],
    ]
    [series] = section.pictures["Loss by group"].series
    assert section.pictures["Loss by group"].x_ticks == {0: "sex f", 1: "sex m"}
    assert [(mark.y, mark.interval) for mark in series.marks] == [
        (0.4, pytest.approx((0.2, 0.6))),
        (0.1, pytest.approx((-0.1, 0.3))),
    ]


def test_runs_of_which_it_is_not_known_say_nothing(
    make_mask: MakeMask, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    old = make_run(make_mask("input_conv"), 0.01, 0.9)
    print_runs([old], "runs")
    assert "FP32's" not in capsys.readouterr().out
    [section] = compare_runs("masks", [ScoredRun(old)]).sections
    assert "Swapping it in" not in [table.title for table in section.tables]
