"""The results of a search in a plane: every point, the front among them, and what others have measured."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from speakerquant.report.labels import labelled
from speakerquant.report.picture import Mark, Picture, Series, Style
from speakerquant.report.table import interval_of, number_cells
from speakerquant.search.front import Entry, Front
from speakerquant.search.goals import find
from speakerquant.search.view import TRIAL, Effect, View

_EVALUATED = Style("silver", size=5)
_FRONT = Style("steelblue", size=6, has_line=True)
_RECOMMENDED = Style("crimson", size=12, marker="*", symbol="star")
_REFERENCE = Style("dimgray", size=6, marker="D", symbol="diamond", is_filled=False)
_EFFECTS = (
    Style("steelblue", size=6),
    Style("crimson", size=6, marker="s", symbol="square"),
    Style("seagreen", size=6, marker="^", symbol="triangle-up"),
)


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


def effects_picture(front: Front, effects: Sequence[Effect], view: View, title: str) -> Picture:
    """What choices do alone, in the plane of the view, with the names of what they are choices of."""
    entries = {entry.number: entry for entry in front.entries}
    marks = [_mark(entries[each.number], view, each.part) for each in effects]
    with_label = labelled([mark.label for mark in marks], [(mark.x, mark.y) for mark in marks])
    choices: dict[str, list[Mark]] = {}
    for number, (each, mark) in enumerate(zip(effects, marks, strict=True)):
        shown = mark if number in with_label else replace(mark, label="")
        choices.setdefault(each.choice, []).append(shown)
    series = [
        Series(choice, those, style)
        for (choice, those), style in zip(choices.items(), itertools.cycle(_EFFECTS))
    ]
    x, y = view.quantity(view.plane.x), view.quantity(view.plane.y)
    return Picture(title, x.label, y.label, series)


def _mark(entry: Entry, view: View, label: str = "") -> Mark:
    values = {**entry.result, TRIAL: entry.number}
    x, y = view.quantity(view.plane.x), view.quantity(view.plane.y)
    along, up = float(find(values, view.plane.x)), float(find(values, view.plane.y))
    cells = number_cells({view.plane.x: x, view.plane.y: y}, values)
    text = f"trial {entry.number}: {view.describe(entry.point)}<br>{x.label} {cells[0]}, {y.label} {cells[1]}"
    interval = interval_of(y, entry.result)
    bar = interval and (y.scale * interval[0], y.scale * interval[1])
    return Mark(x.scale * along, y.scale * up, text, label, bar)
