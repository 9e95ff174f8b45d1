"""Runs in Markdown, for MLflow's descriptions."""

from collections.abc import Sequence

from speakerquant.evaluation.result import FIGURES, MaskRun
from speakerquant.report.mask_words import mask_name
from speakerquant.report.multirun_report import SHOWN
from speakerquant.report.table import number_cells

_OURS = {name: FIGURES[name] for name in SHOWN}


def run_words(run: MaskRun) -> str:
    """One line: the mask with its figures."""
    cells = zip(_OURS.values(), number_cells(_OURS, run.metrics), strict=True)
    return f"**{mask_name(run.mask)}**: " + ", ".join(f"{figure.label} {cell}" for figure, cell in cells)


def runs_table(runs: Sequence[MaskRun]) -> str:
    """A table with a row for every run that finished."""
    rows = [[mask_name(run.mask), *number_cells(_OURS, run.metrics)] for run in runs if not run.failure]
    headings = ["mask", *(figure.label for figure in _OURS.values())]
    rule = ["---", *["---:"] * len(_OURS)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))
