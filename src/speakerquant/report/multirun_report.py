"""What a multirun leaves for people: its numbers beside published ones, as a table and as a picture."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from speakerquant.measuring.engine_metrics import ENGINE_SIZE, SIZE_RATIO
from speakerquant.measuring.result import UNFINISHED, MaskRun
from speakerquant.quantization.precision import BASELINE
from speakerquant.report.labels import labelled
from speakerquant.report.mask_words import precisions_of
from speakerquant.report.metric_cells import metric_cells
from speakerquant.report.networks import SHOWN, networks_of, shown_metrics
from speakerquant.report.picture import Mark, Picture, Series, Style
from speakerquant.report.published_columns import PublishedColumns, published_label
from speakerquant.report.run_names import (
    ComparableRuns,
    NamedRun,
    common_words,
    comparable_runs,
    joined,
    name_runs,
)
from speakerquant.report.swapping import swap_lines
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
from speakerquant.statistics.metric import Metric

X, Y = SIZE_RATIO, EER.delta
"""What spans the plane in which masks are drawn."""

POINT_HEADING = "quantized units"

COLORS = ("gray", "steelblue", "darkorange", "seagreen", "crimson", "mediumpurple", "sienna", "olive")
_PUBLISHED = Style("dimgray", size=6, is_filled=False)
_SAME_MASK = Style("gray", size=0, has_line=True)


def print_runs(runs: Sequence[MaskRun], title: str) -> None:
    """Print one row per run, in a table for those that may be compared, and below them why runs failed."""
    named = name_runs(runs)
    for group in comparable_runs(named):
        _print_group(group, title)
    without = [each for each in named if each.run.failure]
    print_lines(f"{each.name}: {UNFINISHED}" for each in without if each.run.failure == UNFINISHED)
    print_failures(f"{each.name}: {each.run.failure}" for each in without if each.run.failure != UNFINISHED)


def _print_group(group: ComparableRuns, title: str) -> None:
    published = PublishedColumns([each.run for each in group.runs])
    # Whose they are stands on a line of its own, so that they are no wider than their numbers.
    others = [
        replace(each, heading=f"{published.label}'s\n{each.heading}")
        for each in number_columns(published.metrics, style="dim")
    ]
    shown = shown_metrics(group)
    columns = [Column(POINT_HEADING), *number_columns(shown), *others]
    rows = [Row([each.name, *_our_cells(each.run, shown), *published.cells(each.run)]) for each in group.runs]
    print_table(group.titled(title), columns, rows)
    print_lines([*_execution(group.runs), *swap_lines(group.finished)])


def smallest_without_loss(runs: Sequence[MaskRun]) -> list[NamedRun]:
    """Of each network on each list, the run of the smallest engine that nothing shows to lose."""
    low = EER.delta.low.name
    smallest: dict[tuple[int, str], NamedRun] = {}
    named = name_runs(runs)
    for place, group in enumerate(comparable_runs(named)):
        for each in group.finished:
            key = place, each.run.made_with.get("checkpoint", "")
            is_smaller = key not in smallest or _size(each.run) < _size(smallest[key].run)
            if is_smaller and each.run.metrics.get(low, math.inf) <= 0:
                smallest[key] = named[each.number]
    return [*smallest.values()]


def _size(run: MaskRun) -> float:
    return run.metrics[ENGINE_SIZE.name]


def precision_colors(runs: Iterable[MaskRun]) -> dict[str, str]:
    """A color for what the masks of runs that are shown together take units to; gray is the baseline's."""
    precisions = dict.fromkeys(precisions_of(run.mask) for run in runs if not run.failure)
    others = (each for each in precisions if each != BASELINE.name)
    return {BASELINE.name: COLORS[0], **dict(zip(others, itertools.cycle(COLORS[1:]), strict=False))}


def draw_runs(runs: Sequence[MaskRun], path: Path | str) -> None:
    """Draw finished runs by size and error, joined to what is published of them, as a PNG file.

    Those that may be compared share a picture; several are below each other.
    """
    from speakerquant.report.png_picture import draw_png  # Matplotlib, for which only who draws waits

    colors = precision_colors(runs)
    draw_png([runs_picture(group, colors) for group in comparable_runs(name_runs(runs))], Path(path))


def runs_picture(group: ComparableRuns, colors: Mapping[str, str]) -> Picture:
    """The finished runs: of several networks by size and EER, of one by what its masks change of both.

    Args:
        group: The runs.
        colors: Of each of the :func:`precision_colors`.
    """
    networks = networks_of(group)
    return _networks_picture(group, networks) if len(networks) > 1 else _masks_picture(group, colors)


def _networks_picture(group: ComparableRuns, networks: Sequence[ComparableRuns]) -> Picture:
    """The runs by their size in MB and their EER, in a colour for each network."""
    with_label = _labelled(group.finished, ENGINE_SIZE, EER)
    series = []
    for network, color in zip(networks, itertools.cycle(COLORS[1:]), strict=False):
        marks = []
        for each in network.runs:
            numbers = each.run.metrics
            cells = zip(SHOWN, metric_cells(SHOWN, numbers), strict=True)
            text = f"{network.titled(each.name)}: {', '.join(f'{of.label} {cell}' for of, cell in cells)}"
            low, high = EER.low.name, EER.high.name
            interval = (numbers[low], numbers[high]) if low in numbers else None
            size = ENGINE_SIZE.scale * _size(each.run)
            label = each.name if each.number in with_label else ""
            marks.append(Mark(size, numbers[EER.name], text, label, interval))
        series.append(Series(joined(network.words), marks, Style(color, size=6)))
    title = joined([*group.words, *_execution(group.runs)])
    return Picture(title, ENGINE_SIZE.label, EER.label, series)


def _masks_picture(group: ComparableRuns, colors: Mapping[str, str]) -> Picture:
    """The runs by their size relative to FP32 and their ΔEER, in a colour for each precision."""
    ours: dict[str, list[Mark]] = {}
    published, joins = [], []
    whose = published_label([each.run for each in group.finished])
    with_label = _labelled(group.finished, X, Y)
    for each in group.finished:
        run = each.run
        x, y = metric_cells((X, Y), run.metrics)
        text = f"{each.name}: {X.label} {x}, {Y.label} {y}"
        interval = interval_of(Y, run.metrics)
        label = each.name if each.number in with_label else ""
        mark = Mark(run.metrics[X.name], run.metrics[Y.name], text, label, interval)
        ours.setdefault(precisions_of(run.mask), []).append(mark)
        if run.published:
            numbers = run.published.numbers
            text = f"{each.name}, in the {run.published.label}"
            published.append(Mark(numbers[X.name], numbers[Y.name], text))
            joins.append(Series("", [mark, published[-1]], _SAME_MASK))
    measured = [
        Series(f"{precisions} here", marks, Style(colors[precisions], size=6))
        for precisions, marks in ours.items()
    ]
    series = [*joins, Series(f"{whose}, same mask", published, _PUBLISHED), *measured]
    title = joined([*group.words, *_execution(group.runs)])
    return Picture(title, X.label, Y.label, [each for each in series if each.marks])


def _labelled(runs: Sequence[NamedRun], x: Metric, y: Metric) -> set[int]:
    """Numbers of the runs with a label; those of the baseline have one."""
    places = [(each.run.metrics[x.name], each.run.metrics[y.name]) for each in runs]
    baselines = [i for i, each in enumerate(runs) if each.run.is_baseline]
    return {runs[i].number for i in labelled([each.name for each in runs], places, baselines)}


def built_only(scores_from: str) -> str:
    """In few words, where the error rates of engines come from that this machine cannot run."""
    return f"engines built, not run: error rates by {scores_from} on their networks"


def _execution(runs: Sequence[NamedRun]) -> list[str]:
    """What is to be known of runs whose engines were not run, and which these are if others were."""
    lines = []
    for name in sorted({each.run.scores_from for each in runs if each.run.scores_from}):
        these = [each for each in runs if each.run.scores_from == name]
        which = common_words(these) if len(these) < len(runs) else ()
        lines.append(joined([*which, built_only(name)]))
    return lines


def _our_cells(run: MaskRun, shown: Sequence[Metric]) -> list[str]:
    if run.failure:
        word = "running" if run.failure == UNFINISHED else "failed"
        return [word, *[NOTHING] * (len(shown) - 1)]
    return metric_cells(shown, run.metrics)
