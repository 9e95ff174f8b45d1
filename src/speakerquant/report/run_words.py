"""Runs in Markdown, for MLflow's descriptions."""

from collections.abc import Sequence

from speakerquant.measuring.result import UNFINISHED, MaskRun
from speakerquant.report.mask_words import mask_name
from speakerquant.report.metric_cells import metric_cells
from speakerquant.report.networks import SHOWN, shown_metrics
from speakerquant.report.published_columns import PublishedColumns
from speakerquant.report.run_names import ComparableRuns, NamedRun, comparable_runs, joined, name_runs
from speakerquant.report.swapping import swap_words
from speakerquant.report.table import markdown_list, markdown_table


def run_rows(group: ComparableRuns) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: what each finished run is called, its numbers, and those published of it."""
    published = PublishedColumns([each.run for each in group.finished])
    shown = shown_metrics(group)
    headings = ["mask", *(metric.label for metric in shown), *published.headings]
    rows = [
        [each.name, *metric_cells(shown, each.run.metrics), *published.cells(each.run)]
        for each in group.finished
    ]
    return headings, rows


def run_words(run: MaskRun) -> str:
    """One line: the mask with its numbers, and what can stay where it takes FP32's place."""
    cells = zip(SHOWN, metric_cells(SHOWN, run.metrics), strict=True)
    numbers = ", ".join(f"{metric.label} {cell}" for metric, cell in cells)
    return ". ".join(part for part in (f"**{mask_name(run.mask)}**: {numbers}", swap_words(run)) if part)


def unfinished_lines(named: Sequence[NamedRun]) -> list[str]:
    """Of every run that has no numbers why, in a line."""
    return [
        f"{each.name}: {'' if failure == UNFINISHED else 'failed: '}{' '.join(failure.split())}"
        for each in named
        if (failure := each.run.failure)
    ]


def runs_table(runs: Sequence[MaskRun]) -> str:
    """A row for every run that finished, in a table for those that may be compared; below, what did not."""
    named = name_runs(runs)
    tables = [_table(group) for group in comparable_runs(named) if group.finished]
    unfinished = markdown_list(unfinished_lines(named))
    return "\n\n".join([*tables, *([unfinished] if unfinished else [])])


def _table(group: ComparableRuns) -> str:
    title = f"**{joined(group.words)}**\n\n" if group.words else ""
    return title + markdown_table(*run_rows(group))
