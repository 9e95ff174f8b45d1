"""Size against loss of accuracy, ours beside the paper's."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from speakerquant.cache import atomic_path
from speakerquant.evaluation.result import MaskRun
from speakerquant.paper import paper_result
from speakerquant.reporting.table import mask_name


def plot_runs(runs: Sequence[MaskRun], path: Path) -> None:
    """Draw every finished run as a point (size relative to FP32, ΔEER) into a PNG file."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    names: dict[tuple[float, float], list[str]] = {}
    for run in runs:
        if run.failure:
            continue
        ratio, delta = run.metrics["size_ratio"], run.metrics["delta_eer"]
        names.setdefault((round(ratio, 3), round(delta, 3)), []).append(mask_name(run.mask))
        axes.scatter(ratio, delta, color="tab:blue", zorder=3)
        if paper := paper_result(run.mask):
            axes.scatter(
                paper.size_ratio, paper.delta_eer, facecolors="none", edgecolors="tab:gray", zorder=2
            )
            line_x, line_y = (ratio, paper.size_ratio), (delta, paper.delta_eer)
            axes.plot(line_x, line_y, color="tab:gray", linewidth=0.5, zorder=1)
    for point, same_place in names.items():
        label = "\n".join(same_place)
        axes.annotate(label, point, xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.scatter([], [], color="tab:blue", label="measured here")
    axes.scatter([], [], facecolors="none", edgecolors="tab:gray", label="paper, same mask")
    axes.axhline(0.0, color="black", linewidth=0.5)
    axes.set_xlabel("engine size relative to FP32")
    axes.set_ylabel("ΔEER (percent absolute)")
    axes.margins(x=0.18, y=0.1)
    axes.legend()
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=150)
