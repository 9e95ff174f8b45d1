"""The table that ends every run: our figures beside the paper's."""

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from speakerquant.console import table_console
from speakerquant.evaluation.result import MaskRun
from speakerquant.paper import paper_result

_NOTHING = "-"

FIGURE_HEADINGS = ("EER %", "ΔEER %", "size MB", "size ratio", "latency ms")


def mask_name(mask: Mapping[str, str]) -> str:
    """``none``, ``all``, or the units in INT8 (the paper's proposal by what it leaves out)."""
    quantized = [unit for unit, precision in mask.items() if precision == "int8"]
    left_out = [unit for unit in mask if unit not in quantized]
    if not quantized:
        return "none"
    if not left_out:
        return "all"
    if len(left_out) < len(quantized):
        return f"all but {', '.join(left_out)}"
    return ", ".join(quantized)


def print_table(runs: Sequence[MaskRun], title: str) -> None:
    """Print one row per run to standard output, failed ones with their reason."""
    table = Table(title=escape(title), title_justify="left")
    table.add_column("INT8 units")
    for name in FIGURE_HEADINGS:
        table.add_column(name, justify="right")
    for name in ("paper's EER %", "ΔEER %", "size MB", "size ratio"):
        table.add_column(name, justify="right", style="dim")
    for run in runs:
        table.add_row(escape(mask_name(run.mask)), *_our_cells(run), *_paper_cells(run))
    console = table_console()
    console.print(table)
    for run in runs:
        if run.failure:
            reason = escape(f"{mask_name(run.mask)}: {run.failure}")
            console.print(f"[red]failed[/red] {reason}", soft_wrap=True, highlight=False)


def _our_cells(run: MaskRun) -> list[str]:
    if run.failure:
        return ["failed", *[_NOTHING] * (len(FIGURE_HEADINGS) - 1)]
    return figure_cells(run.metrics)


def figure_cells(metrics: Mapping[str, float]) -> list[str]:
    """An evaluation's figures under :data:`FIGURE_HEADINGS`."""
    return [
        f"{metrics['eer']:.3f}",
        f"{metrics['delta_eer']:+.3f}",
        f"{metrics['engine_size_bytes'] / 1e6:.3f}",
        f"{metrics['size_ratio']:.3f}",
        f"{metrics['latency_ms_p50']:.1f}" if "latency_ms_p50" in metrics else _NOTHING,
    ]


def _paper_cells(run: MaskRun) -> list[str]:
    paper = paper_result(run.mask)
    if paper is None:
        return [_NOTHING] * 4
    return [f"{paper.eer:.3f}", f"{paper.delta_eer:+.3f}", f"{paper.size_mb:.3f}", f"{paper.size_ratio:.3f}"]
