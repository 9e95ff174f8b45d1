"""Runs in Markdown, for MLflow's descriptions."""

from collections.abc import Sequence

from speakerquant.measuring.result import MaskRun
from speakerquant.report.mask_words import mask_name
from speakerquant.report.metric_cells import metric_cells
from speakerquant.report.multirun_report import SHOWN
from speakerquant.report.published_columns import PublishedColumns
from speakerquant.report.table import markdown_table


def run_headings(published: PublishedColumns) -> list[str]:
    """What stands above :func:`run_cells`."""
    return ["mask", *(metric.label for metric in SHOWN), *published.headings]


def run_cells(run: MaskRun, published: PublishedColumns) -> list[str]:
    """A row: the mask, its numbers, and those that are published of it."""
    return [mask_name(run.mask), *metric_cells(SHOWN, run.metrics), *published.cells(run)]


def run_words(run: MaskRun) -> str:
    """One line: the mask with its numbers."""
    cells = zip(SHOWN, metric_cells(SHOWN, run.metrics), strict=True)
    return f"**{mask_name(run.mask)}**: " + ", ".join(f"{metric.label} {cell}" for metric, cell in cells)


def runs_table(runs: Sequence[MaskRun]) -> str:
    """A table with a row for every run that finished."""
    finished = [run for run in runs if not run.failure]
    published = PublishedColumns(finished)
    return markdown_table(run_headings(published), [run_cells(run, published) for run in finished])
