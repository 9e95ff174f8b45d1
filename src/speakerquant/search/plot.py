"""Pictures of a search: every point, the front among them, and what others have measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
from matplotlib.figure import Figure

from speakerquant.cache import atomic_path
from speakerquant.search.front import Entry, Front
from speakerquant.search.goals import find
from speakerquant.search.view import TRIAL, View


@dataclass(frozen=True)
class _Series:
    """Points of one kind; styles in matplotlib's and plotly's terms."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str]
    color: str
    marker: tuple[str, str]
    size: int
    line: bool = False


def plot_png(front: Front, view: View, title: str, path: Path) -> None:
    """Draw the search as a PNG file."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    for series in _series(front, view):
        axes.plot(
            series.x,
            series.y,
            series.marker[0],
            linestyle="-" if series.line else "none",
            linewidth=1,
            color=series.color,
            markersize=series.size * 0.7,
            label=series.name,
        )
    for reference in view.plane.references:
        axes.annotate(
            reference.label,
            (reference.x, reference.y),
            xytext=(-6, 6),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="dimgray",
        )
    axes.set_xlabel(view.plane.x_label)
    axes.set_ylabel(view.plane.y_label)
    axes.set_title(title)
    axes.margins(0.1)
    axes.grid(alpha=0.25)
    axes.legend(loc="best", fontsize=9)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=150)


def plot_html(front: Front, view: View, title: str, path: Path) -> None:
    """Draw the search as one HTML file that needs no network; hovering over a point names it."""
    figure = go.Figure()
    for series in _series(front, view):
        figure.add_scatter(
            x=series.x,
            y=series.y,
            name=series.name,
            mode="lines+markers" if series.line else "markers",
            marker={"symbol": series.marker[1], "size": series.size, "color": series.color},
            line={"width": 1, "color": series.color},
            text=series.labels,
            hovertemplate="%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
        )
    figure.update_layout(
        title=title,
        xaxis_title=view.plane.x_label,
        yaxis_title=view.plane.y_label,
        template="plotly_white",
    )
    with atomic_path(path) as part:
        figure.write_html(part, include_plotlyjs=True)


def _series(front: Front, view: View) -> list[_Series]:
    best = {entry.number for entry in front.best}
    others = [entry for entry in front.entries if entry.number not in best]
    along = sorted(front.best, key=lambda entry: _place(entry, view))
    kinds = [
        _of_entries("evaluated", others, view, "silver", ("o", "circle"), 7),
        _of_entries("front", along, view, "steelblue", ("o", "circle"), 9, line=True),
    ]
    if front.recommended:
        kinds.append(_of_entries("recommended", [front.recommended], view, "crimson", ("*", "star"), 18))
    references = view.plane.references
    if references:
        kinds.append(
            _Series(
                "for comparison",
                [reference.x for reference in references],
                [reference.y for reference in references],
                [reference.label for reference in references],
                "dimgray",
                ("D", "diamond-open"),
                9,
            )
        )
    return kinds


def _of_entries(
    name: str,
    entries: Sequence[Entry],
    view: View,
    color: str,
    marker: tuple[str, str],
    size: int,
    *,
    line: bool = False,
) -> _Series:
    places = [_place(entry, view) for entry in entries]
    labels = [f"trial {entry.number}: {view.describe(entry.point)}" for entry in entries]
    return _Series(name, [x for x, _ in places], [y for _, y in places], labels, color, marker, size, line)


def _place(entry: Entry, view: View) -> tuple[float, float]:
    values = {**entry.result, TRIAL: entry.number}
    return float(find(values, view.plane.x)), float(find(values, view.plane.y))
