"""The results of a search in a plane: every point, the front among them, and what others have measured."""

from dataclasses import replace

from speakerquant.report.picture import Mark, Picture, Series, Style
from speakerquant.report.table import interval_of, number_cells
from speakerquant.search.front import Entry, Front
from speakerquant.search.goals import find
from speakerquant.search.view import TRIAL, View

_EVALUATED = Style("silver", size=5)
_FRONT = Style("steelblue", size=6, has_line=True)
_RECOMMENDED = Style("crimson", size=12, marker="*", symbol="star")
_REFERENCE = Style("dimgray", size=6, marker="D", symbol="diamond", is_filled=False)


def search_picture(front: Front, view: View, title: str) -> Picture:
    """The front in the plane of the view."""
    best = {entry.number for entry in front.best}
    others = [
        replace(_mark(entry, view), interval=None) for entry in front.entries if entry.number not in best
    ]
    along = sorted((_mark(entry, view) for entry in front.best), key=lambda mark: (mark.x, mark.y))
    recommended = [_mark(front.recommended, view, "recommended")] if front.recommended else []
    references = [Mark(each.x, each.y, each.label, each.label) for each in view.plane.references]
    series = [
        Series("evaluated", others, _EVALUATED),
        Series("front", along, _FRONT),
        Series("recommended", recommended, _RECOMMENDED),
        Series("for comparison", references, _REFERENCE),
    ]
    x, y = view.quantity(view.plane.x), view.quantity(view.plane.y)
    return Picture(title, x.label, y.label, [each for each in series if each.marks])


def _mark(entry: Entry, view: View, label: str = "") -> Mark:
    values = {**entry.result, TRIAL: entry.number}
    x, y = view.quantity(view.plane.x), view.quantity(view.plane.y)
    along, up = float(find(values, view.plane.x)), float(find(values, view.plane.y))
    cells = number_cells({view.plane.x: x, view.plane.y: y}, values)
    text = f"trial {entry.number}: {view.describe(entry.point)}<br>{x.label} {cells[0]}, {y.label} {cells[1]}"
    interval = interval_of(y, entry.result)
    bar = interval and (y.scale * interval[0], y.scale * interval[1])
    return Mark(x.scale * along, y.scale * up, text, label, bar)
