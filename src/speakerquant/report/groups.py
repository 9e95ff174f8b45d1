"""For whom masks lose: a table and a picture of groups of trials."""

import itertools
from collections.abc import Mapping, Sequence

from speakerquant.measuring.result import GROUPS_PREFIX, MaskRun, below
from speakerquant.report.metric_cells import metric_cells
from speakerquant.report.picture import Mark, Picture, Series, Style
from speakerquant.report.run_names import NamedRun
from speakerquant.report.table import interval_of
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.group_metrics import HOLM
from speakerquant.statistics.metric import Metric
from speakerquant.statistics.swap_metrics import EER_POINT, FALSE_ACCEPTS, FALSE_REJECTS, flips

_SHOWN: Sequence[Metric] = (
    *(EER, EER.delta, HOLM),
    *(FALSE_REJECTS.at(EER_POINT).delta, FALSE_ACCEPTS.at(EER_POINT).delta),
    flips(share_of_targets=0.5).at(EER_POINT),
)
_STEP = 0.6  # of the way from one group to the next, over which the runs of a group are spread


def group_rows(runs: Sequence[NamedRun]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: of every mask but the baseline what it changes in each group."""
    headings = ["mask", "group", *(metric.label for metric in _SHOWN)]
    rows = [
        [name, group, *metric_cells(_SHOWN, numbers)]
        for name, groups in _with_groups(runs)
        for group, numbers in groups.items()
    ]
    return headings, rows


def groups_picture(runs: Sequence[NamedRun], colors: Sequence[str]) -> Picture:
    """The loss of every mask but the baseline in each group, groups beside each other."""
    measured = _with_groups(runs)
    names = dict.fromkeys(group for _, groups in measured for group in groups)
    places = {name: place for place, name in enumerate(names)}
    series = []
    for number, ((name, groups), color) in enumerate(zip(measured, itertools.cycle(colors), strict=False)):
        aside = _STEP * ((number + 0.5) / len(measured) - 0.5)
        marks = []
        for group, numbers in groups.items():
            [cell] = metric_cells([EER.delta], numbers)
            interval = interval_of(EER.delta, numbers)
            text = f"{name}, {group}: {EER.delta.label} {cell}"
            marks.append(Mark(places[group] + aside, numbers[EER.delta.name], text, interval=interval))
        series.append(Series(name, marks, Style(color, size=5)))
    return Picture("", "", EER.delta.label, series, {place: name for name, place in places.items()})


def _with_groups(runs: Sequence[NamedRun]) -> list[tuple[str, Mapping[str, Mapping[str, float]]]]:
    """The masks of which groups were looked at, with the numbers of each group by name."""
    return [
        (each.name, groups) for each in runs if not each.run.is_baseline and (groups := _groups(each.run))
    ]


def _groups(run: MaskRun) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, value in below(GROUPS_PREFIX, run.metrics).items():
        group, _, number = name.rpartition(".")
        found.setdefault(group, {})[number] = value
    return found
