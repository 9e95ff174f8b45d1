"""Results as points in a plane: a PNG file with labels that cover nothing, an HTML file with hover texts."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from speakerquant.files import atomic_path

if TYPE_CHECKING:
    import plotly.graph_objects as go

PLOTLY_CONFIG = {"responsive": True, "displayModeBar": False}
"""How Plotly shows pictures: as wide as the page, and without buttons, which would cover titles."""

_MOST_NAMED = 12  # series in the legend; of more it would take the page, and hovering names them
_HTML_PIXELS = 1.5  # to a point of a mark's size
_TITLE_PIXELS, _TITLE_LETTERS = 15, 80  # which fit into most windows
_LEGEND, _OF_A_LETTER = -0.2, 0.015  # below the axis, and below what stands at its ticks, which may be turned
_INK, _GRID = "gray", "rgba(128,128,128,0.25)"  # to be seen on light pages and on dark ones


@dataclass(frozen=True)
class Mark:
    """A result's place in the plane.

    Attributes:
        x: Its place along the horizontal axis.
        y: Its place along the vertical axis.
        text: What the HTML file says about it.
        label: What the PNG file has written beside it; may be empty.
        interval: Where ``y`` lies with confidence, from low to high; drawn as a bar.
    """

    x: float
    y: float
    text: str = ""
    label: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Style:
    """How the marks of a series look.

    Attributes:
        color: A color's name in CSS.
        size: Diameter of a mark in points; without marks, zero.
        marker: Matplotlib's name of the mark's shape.
        symbol: Plotly's name of the mark's shape.
        is_filled: Whether marks are filled.
        has_line: Whether a line joins the marks in their order.
    """

    color: str
    size: float
    marker: str = "o"
    symbol: str = "circle"
    is_filled: bool = True
    has_line: bool = False


@dataclass(frozen=True)
class Series:
    """Marks of one kind; those without a name are not in the legend."""

    name: str
    marks: Sequence[Mark]
    style: Style


@dataclass(frozen=True)
class Picture:
    """What is drawn; later series lie over earlier ones.

    Attributes:
        title: Above it; may be empty.
        x_label: Below it.
        y_label: Beside it.
        series: The marks.
        x_ticks: What stands at places on the horizontal axis, where these are not the places themselves.
        y_ticks: The same of the vertical axis.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_ticks: Mapping[float, str] = field(default_factory=dict)
    y_ticks: Mapping[float, str] = field(default_factory=dict)


def draw_html(picture: Picture, path: Path) -> None:
    """Draw into one HTML file that needs no network; hovering over a mark shows its text."""
    with atomic_path(path) as part:
        to_plotly(picture).write_html(part, PLOTLY_CONFIG, include_plotlyjs=True)


def to_plotly(picture: Picture) -> "go.Figure":
    """The picture as a figure of Plotly, whose background is that of the page."""
    import plotly.graph_objects as go  # only who draws waits for it

    has_legend = sum(bool(series.name) for series in picture.series) <= _MOST_NAMED
    figure = go.Figure()
    for series in picture.series:
        style = series.style
        modes = [*(["lines"] if style.has_line else []), *(["markers"] if style.size else [])]
        figure.add_scatter(
            x=[mark.x for mark in series.marks],
            y=[mark.y for mark in series.marks],
            name=series.name,
            showlegend=has_legend and bool(series.name),
            mode="+".join(modes),
            marker={
                "symbol": style.symbol + ("" if style.is_filled else "-open"),
                "size": _HTML_PIXELS * style.size,
                "color": style.color,
            },
            line={"width": 1, "color": style.color},
            error_y={
                "type": "data",
                "symmetric": False,
                "arrayminus": [mark.y - mark.interval[0] if mark.interval else 0 for mark in series.marks],
                "array": [mark.interval[1] - mark.y if mark.interval else 0 for mark in series.marks],
                "thickness": 0.5,
                "width": 0,
            },
            text=[mark.text for mark in series.marks],
            hovertemplate="%{text}<extra></extra>",
        )
    title = textwrap.wrap(picture.title, _TITLE_LETTERS)
    figure.update_layout(
        title={"text": "<br>".join(title), "font": {"size": _TITLE_PIXELS}},
        xaxis=_axis(picture.x_label, picture.x_ticks),
        yaxis=_axis(picture.y_label, picture.y_ticks),
        template="plotly_white",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": _INK},
        legend={
            "orientation": "h",
            "y": _LEGEND - _OF_A_LETTER * max(map(len, picture.x_ticks.values()), default=0),
        },
        margin={"l": 60, "r": 20, "t": 40 + 1.3 * _TITLE_PIXELS * len(title), "b": 40},
    )
    return figure


def _axis(label: str, ticks: Mapping[float, str]) -> dict[str, object]:
    axis: dict[str, object] = {"title": label, "gridcolor": _GRID, "zerolinecolor": _GRID, "automargin": True}
    return axis | ({"tickvals": [*ticks], "ticktext": [*ticks.values()]} if ticks else {})
