"""Runs in Markdown, for MLflow's descriptions."""

from collections.abc import Sequence

from speakerquant.measuring.result import MaskRun
from speakerquant.report.mask_words import mask_name
from speakerquant.report.metric_cells import metric_cells
from speakerquant.report.multirun_report import SHOWN
from speakerquant.report.published_columns import PublishedColumns
from speakerquant.report.run_names import ComparableRuns, NamedRun, comparable_runs, joined, name_runs
from speakerquant.report.table import markdown_table


def run_headings(published: PublishedColumns) -> list[str]:
    """What stands above :func:`run_cells`."""
    return ["mask", *(metric.label for metric in SHOWN), *published.headings]


def run_cells(named: NamedRun, published: PublishedColumns) -> list[str]:
    """A row: what the run is called, its numbers, and those that are published of it."""
    return [named.name, *metric_cells(SHOWN, named.run.metrics), *published.cells(named.run)]


def run_words(run: MaskRun) -> str:
    """One line: the mask with its numbers."""
    cells = zip(SHOWN, metric_cells(SHOWN, run.metrics), strict=True)
    return f"**{mask_name(run.mask)}**: " + ", ".join(f"{metric.label} {cell}" for metric, cell in cells)


def runs_table(runs: Sequence[MaskRun]) -> str:
    """A row for every run that finished, in a table for those that may be compared."""
    return "\n\n".join(_table(group) for group in comparable_runs(name_runs(runs)) if group.finished)


def _table(group: ComparableRuns) -> str:
    published = PublishedColumns([each.run for each in group.finished])
    rows = [run_cells(each, published) for each in group.finished]
    title = f"**{joined(group.words)}**\n\n" if group.words else ""
    return title + markdown_table(run_headings(published), rows)
