"""What a multirun leaves for people: its figures beside the paper's, as a table and as a picture."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from speakerquant.measuring.result import FIGURES, MaskRun
from speakerquant.report.execution_words import built_only
from speakerquant.report.mask_words import mask_name, precisions_of
from speakerquant.report.paper import paper_result
from speakerquant.report.picture import Mark, Picture, Series, Style, draw_png
from speakerquant.report.table import (
    NOTHING,
    Column,
    Row,
    interval_of,
    number_cells,
    number_columns,
    print_failures,
    print_lines,
    print_table,
)

SHOWN = ("eer", "delta_eer", "engine_size_bytes", "size_ratio", "latency_ms_p50")
"""Names of the figures that are shown of every mask."""

X, Y = "size_ratio", "delta_eer"
"""Names of the figures that span the plane in which masks are drawn."""

POINT_HEADING = "quantized units"

OURS = {name: FIGURES[name] for name in SHOWN}
PAPERS = {name: FIGURES[name] for name in ("eer", "delta_eer", "engine_size_bytes", "size_ratio")}
"""The figures that are shown, and those that the paper has too."""

COLORS = ("gray", "steelblue", "darkorange", "seagreen", "crimson", "mediumpurple", "sienna", "olive")
_PAPER = Style("dimgray", size=6, is_filled=False)
_SAME_MASK = Style("gray", size=0, has_line=True)


def print_runs(runs: Sequence[MaskRun], title: str) -> None:
    """Print one row per run to standard output, and below them why runs failed."""
    first, *others = number_columns(PAPERS.values(), style="dim")
    paper = [Column(f"paper's {first.heading}", is_number=True, style="dim"), *others]
    columns = [Column(POINT_HEADING), *number_columns(OURS.values()), *paper]
    print_table(title, columns, [Row([_name(run), *_our_cells(run), *paper_cells(run)]) for run in runs])
    print_lines(_execution(runs))
    print_failures(f"{_name(run)}: {run.failure}" for run in runs if run.failure)


def smallest_without_loss(runs: Sequence[MaskRun]) -> MaskRun | None:
    """The run of the smallest engine that nothing shows to lose against the baseline; none if all do."""
    candidates = [run for run in runs if not run.failure and run.metrics.get("delta_eer_low", math.inf) <= 0]
    return min(candidates, key=lambda run: run.metrics["engine_size_bytes"], default=None)


def draw_runs(runs: Sequence[MaskRun], path: Path) -> None:
    """Draw every finished run by its size and loss, joined to the paper's of the same mask, as a PNG file."""
    draw_png(runs_picture(runs), path)


def runs_picture(runs: Sequence[MaskRun]) -> Picture:
    """The finished runs by their size relative to FP32 and their ΔEER, in a colour for each precision."""
    ours: dict[str, list[Mark]] = {}
    papers, joins = [], []
    for run in runs:
        if run.failure:
            continue
        interval = interval_of(FIGURES[Y], run.metrics)
        x, y = number_cells({name: FIGURES[name] for name in (X, Y)}, run.metrics)
        text = f"{_name(run)}: {FIGURES[X].label} {x}, {FIGURES[Y].label} {y}"
        mark = Mark(run.metrics[X], run.metrics[Y], text, _name(run), interval)
        ours.setdefault(precisions_of(run.mask), []).append(mark)
        if paper := paper_result(run.mask):
            papers.append(Mark(paper.metrics[X], paper.metrics[Y], f"{_name(run)}, in the paper"))
            joins.append(Series("", [mark, papers[-1]], _SAME_MASK))
    measured = [
        Series(f"{precisions} here", marks, Style(color, size=6))
        for (precisions, marks), color in zip(ours.items(), itertools.cycle(COLORS), strict=False)
    ]
    series = [*joins, Series("paper, same mask", papers, _PAPER), *measured]
    title = ", ".join(_execution(runs))
    return Picture(title, FIGURES[X].label, FIGURES[Y].label, [each for each in series if each.marks])


def _execution(runs: Sequence[MaskRun]) -> list[str]:
    """What is to be known of runs whose engines were not run."""
    return [built_only(name) for name in sorted({run.scores_from for run in runs if run.scores_from})]


def _name(run: MaskRun) -> str:
    return mask_name(run.mask) if run.mask else run.name


def _our_cells(run: MaskRun) -> list[str]:
    if run.failure:
        return ["failed", *[NOTHING] * (len(OURS) - 1)]
    return number_cells(OURS, run.metrics)


def paper_cells(run: MaskRun) -> list[str]:
    """What the paper measured for the run's mask, if it did."""
    paper = paper_result(run.mask)
    return number_cells(PAPERS, paper.metrics if paper else {})
