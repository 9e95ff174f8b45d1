"""Pictures drawn by Matplotlib, as PNG files with labels that cover nothing."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from speakerquant.files import atomic_path
from speakerquant.report.label_placement import Array, nearest, place_labels
from speakerquant.report.picture import Picture

_INCHES, _GROWTH = (9.0, 5.5), 1.2
_DPI = 150
_WHITE = 255
_LABEL_SIZE = 8
_LEGEND_COLUMNS = 6
_TITLE_LETTERS_PER_INCH = 9
_LEADER_PIXELS = 14.0  # a label nearer to its point needs no line to it


def draw_png(pictures: Sequence[Picture], path: Path) -> None:
    """Draw into a PNG file, one picture below the other."""
    drawn = [_pixels(to_matplotlib(picture)) for picture in pictures]
    width = max(pixels.shape[1] for pixels in drawn)
    margins = [((0, 0), (0, width - pixels.shape[1]), (0, 0)) for pixels in drawn]
    rows = [np.pad(*each, constant_values=_WHITE) for each in zip(drawn, margins, strict=True)]
    with atomic_path(path) as part:
        imsave(part, np.concatenate(rows), format="png", dpi=_DPI)


def to_matplotlib(picture: Picture) -> Figure:
    """The picture as a figure of Matplotlib, large enough for its labels."""
    width, height = _INCHES
    while True:
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = _draw_series(figure, picture)
        if _draw_labels(figure, axes, picture):
            return figure
        width, height = width * _GROWTH, height * _GROWTH


def _pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    """What is drawn, ``[height, width, 4]``."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.array(canvas.buffer_rgba())  # type: ignore[no-untyped-call]


def _draw_series(figure: Figure, picture: Picture) -> Axes:
    axes = figure.add_subplot()
    for series in picture.series:
        style = series.style
        axes.plot(
            [mark.x for mark in series.marks],
            [mark.y for mark in series.marks],
            marker=style.marker if style.size else "none",
            linestyle="-" if style.has_line else "none",
            linewidth=1 if style.size else 0.5,
            color=style.color,
            markerfacecolor=style.color if style.is_filled else "none",
            markersize=style.size,
            label=series.name or "_unnamed",  # Matplotlib leaves such names out of the legend
        )
        bars = [mark for mark in series.marks if mark.interval]
        lows, highs = zip(*(mark.interval for mark in bars), strict=True) if bars else ((), ())
        axes.vlines([mark.x for mark in bars], lows, highs, color=style.color, alpha=0.35, linewidth=1)
    axes.set_xlabel(picture.x_label)
    axes.set_ylabel(picture.y_label)
    width = figure.get_figwidth()
    axes.set_title(textwrap.fill(picture.title, int(_TITLE_LETTERS_PER_INCH * width)), parse_math=False)
    axes.margins(0.1)
    axes.grid(alpha=0.25)
    if _shows_zero(axes):
        axes.axhline(0.0, color="black", linewidth=0.5, zorder=0)
    _draw_legend(figure, picture)
    return axes


def _draw_legend(figure: Figure, picture: Picture) -> None:
    """In as many columns as fit beside each other."""
    for columns in range(min(len(picture.series), _LEGEND_COLUMNS), 0, -1):
        legend = figure.legend(loc="outside lower center", ncols=columns, fontsize=9)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def _shows_zero(axes: Axes) -> bool:
    low, high = axes.get_ylim()
    return low < 0 < high


def _draw_labels(figure: Figure, axes: Axes, picture: Picture) -> bool:
    """Write the labels; false if there is no room for them."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # from here on the axes stay where they are
    labels = _labels(axes, picture)
    points = np.array(list(labels)).reshape(-1, 2)
    sizes = np.array([_size(figure, label) for label in labels.values()]).reshape(-1, 2)
    boxes = place_labels(points, sizes, *_obstacles(axes, picture), np.array(axes.bbox.extents))
    if boxes is None:
        return False
    for point, label, box in zip(points, labels.values(), boxes, strict=True):
        end = nearest(point, box)
        is_far = np.hypot(*(end - point)) > _LEADER_PIXELS
        axes.annotate(
            label,
            tuple(point),
            xycoords="figure pixels",
            xytext=(box[:2] - point) * 72 / _DPI,
            textcoords="offset points",
            fontsize=_LABEL_SIZE,
            verticalalignment="bottom",
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": "gray",
                "linewidth": 0.5,
                "shrinkA": 0,
                "shrinkB": 3,
                "relpos": (end - box[:2]) / (box[2:] - box[:2]),
            }
            if is_far
            else None,
        )
    return True


def _labels(axes: Axes, picture: Picture) -> dict[tuple[float, float], str]:
    """By place in pixels; marks on the same pixel share a label of several lines."""
    lines: dict[tuple[float, float], list[str]] = {}
    for series in picture.series:
        for mark in series.marks:
            if mark.label and np.isfinite((mark.x, mark.y)).all():  # others are not drawn
                x, y = axes.transData.transform((mark.x, mark.y)).round()
                lines.setdefault((x, y), []).append(mark.label)
    return {place: "\n".join(dict.fromkeys(texts)) for place, texts in lines.items()}


def _size(figure: Figure, label: str) -> tuple[float, float]:
    text = figure.text(0, 0, label, fontsize=_LABEL_SIZE, parse_math=False)
    extent = text.get_window_extent()
    text.remove()
    return extent.width, extent.height


def _obstacles(axes: Axes, picture: Picture) -> tuple[Array, Array]:
    """Boxes of all marks, and the lines between and through them, in pixels."""
    boxes, lines = [np.empty((0, 4))], [np.empty((0, 4))]
    if _shows_zero(axes):
        left, right = axes.get_xlim()
        lines.append(axes.transData.transform([(left, 0.0), (right, 0.0)]).reshape(1, 4))
    for series in picture.series:
        places = axes.transData.transform(
            np.array([(mark.x, mark.y) for mark in series.marks]).reshape(-1, 2)
        )
        radius = series.style.size * _DPI / 72 / 2
        boxes.append(np.hstack([places - radius, places + radius]))
        if series.style.has_line:
            lines.append(np.hstack([places[:-1], places[1:]]))
        bars = [[(mark.x, end) for end in mark.interval] for mark in series.marks if mark.interval]
        lines.append(axes.transData.transform(np.array(bars).reshape(-1, 2)).reshape(-1, 4))
    return np.vstack(boxes), np.vstack(lines)
