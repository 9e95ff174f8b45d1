"""Runs in Markdown, for MLflow's descriptions."""

from collections.abc import Sequence

from speakerquant.measuring.result import MaskRun
from speakerquant.report.mask_words import mask_name
from speakerquant.report.multirun_report import OURS, PAPERS, paper_cells
from speakerquant.report.table import markdown_table, number_cells


def run_headings() -> list[str]:
    """What stands above :func:`run_cells`."""
    return [
        "mask",
        *(figure.label for figure in OURS.values()),
        *(f"paper's {each.label}" for each in PAPERS.values()),
    ]


def run_cells(run: MaskRun) -> list[str]:
    """A row: the mask, its figures, and those that the paper measured for it."""
    return [mask_name(run.mask), *number_cells(OURS, run.metrics), *paper_cells(run)]


def run_words(run: MaskRun) -> str:
    """One line: the mask with its figures."""
    cells = zip(OURS.values(), number_cells(OURS, run.metrics), strict=True)
    return f"**{mask_name(run.mask)}**: " + ", ".join(f"{figure.label} {cell}" for figure, cell in cells)


def runs_table(runs: Sequence[MaskRun]) -> str:
    """A table with a row for every run that finished."""
    return markdown_table(run_headings(), [run_cells(run) for run in runs if not run.failure])
