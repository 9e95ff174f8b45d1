"""What a multirun leaves for people: its numbers beside published ones, as a table and as a picture."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from speakerquant.measuring.engine_metrics import ENGINE_SIZE, LATENCY, SIZE_RATIO
from speakerquant.measuring.result import MaskRun
from speakerquant.report.execution_words import built_only
from speakerquant.report.mask_words import mask_name, precisions_of
from speakerquant.report.metric_cells import metric_cells
from speakerquant.report.picture import Mark, Picture, Series, Style, draw_png
from speakerquant.report.published_columns import PublishedColumns, published_label
from speakerquant.report.table import (
    NOTHING,
    Column,
    Row,
    interval_of,
    number_columns,
    print_failures,
    print_lines,
    print_table,
)
from speakerquant.statistics.error_metrics import EER

SHOWN = (EER, EER.delta, ENGINE_SIZE, SIZE_RATIO, LATENCY)
"""The metrics that tables and reports show of every mask."""

X, Y = SIZE_RATIO, EER.delta
"""What spans the plane in which masks are drawn."""

POINT_HEADING = "quantized units"

COLORS = ("gray", "steelblue", "darkorange", "seagreen", "crimson", "mediumpurple", "sienna", "olive")
_PUBLISHED = Style("dimgray", size=6, is_filled=False)
_SAME_MASK = Style("gray", size=0, has_line=True)


def print_runs(runs: Sequence[MaskRun], title: str) -> None:
    """Print one row per run to standard output, and below them why runs failed."""
    published = PublishedColumns(runs)
    others = number_columns(published.metrics, style="dim")
    if others:  # the first tells whose they are
        others[0] = replace(others[0], heading=published.headings[0])
    columns = [Column(POINT_HEADING), *number_columns(SHOWN), *others]
    rows = [Row([_name(run), *_our_cells(run), *published.cells(run)]) for run in runs]
    print_table(title, columns, rows)
    print_lines(_execution(runs))
    print_failures(f"{_name(run)}: {run.failure}" for run in runs if run.failure)


def smallest_without_loss(runs: Sequence[MaskRun]) -> MaskRun | None:
    """The run of the smallest engine that nothing shows to lose against the baseline; none if all do."""
    low = EER.delta.low.name
    candidates = [run for run in runs if not run.failure and run.metrics.get(low, math.inf) <= 0]
    return min(candidates, key=lambda run: run.metrics[ENGINE_SIZE.name], default=None)


def draw_runs(runs: Sequence[MaskRun], path: Path) -> None:
    """Draw every finished run by its size and loss, joined to what is published of it, as a PNG file."""
    draw_png(runs_picture(runs), path)


def runs_picture(runs: Sequence[MaskRun]) -> Picture:
    """The finished runs by their size relative to FP32 and their ΔEER, in a colour for each precision."""
    ours: dict[str, list[Mark]] = {}
    published, joins = [], []
    label = published_label(runs)
    for run in runs:
        if run.failure:
            continue
        x, y = metric_cells((X, Y), run.metrics)
        text = f"{_name(run)}: {X.label} {x}, {Y.label} {y}"
        interval = interval_of(Y, run.metrics)
        mark = Mark(run.metrics[X.name], run.metrics[Y.name], text, _name(run), interval)
        ours.setdefault(precisions_of(run.mask), []).append(mark)
        if run.published:
            numbers = run.published.numbers
            text = f"{_name(run)}, in the {run.published.label}"
            published.append(Mark(numbers[X.name], numbers[Y.name], text))
            joins.append(Series("", [mark, published[-1]], _SAME_MASK))
    measured = [
        Series(f"{precisions} here", marks, Style(color, size=6))
        for (precisions, marks), color in zip(ours.items(), itertools.cycle(COLORS), strict=False)
    ]
    series = [*joins, Series(f"{label}, same mask", published, _PUBLISHED), *measured]
    title = ", ".join(_execution(runs))
    return Picture(title, X.label, Y.label, [each for each in series if each.marks])


def _execution(runs: Sequence[MaskRun]) -> list[str]:
    """What is to be known of runs whose engines were not run."""
    return [built_only(name) for name in sorted({run.scores_from for run in runs if run.scores_from})]


def _name(run: MaskRun) -> str:
    return mask_name(run.mask) if run.mask else run.name


def _our_cells(run: MaskRun) -> list[str]:
    if run.failure:
        return ["failed", *[NOTHING] * (len(SHOWN) - 1)]
    return metric_cells(SHOWN, run.metrics)
