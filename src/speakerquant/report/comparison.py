"""What is put into a report: tables and pictures of runs that may be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from speakerquant.errors import UserError
from speakerquant.measuring.engine_metrics import ENGINE_SIZE, LATENCY, SIZE_RATIO
from speakerquant.measuring.result import MaskRun
from speakerquant.quantization.precision import BASELINE
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.report.groups import group_rows, groups_picture
from speakerquant.report.metric_cells import metric_cells
from speakerquant.report.multirun_report import COLORS, precision_colors, runs_picture
from speakerquant.report.picture import Mark, Picture, Series, Style
from speakerquant.report.run_names import (
    ComparableRuns,
    NamedRun,
    common_options,
    common_words,
    comparable_runs,
    joined,
    name_runs,
)
from speakerquant.report.run_words import run_rows, unfinished_lines
from speakerquant.report.swapping import swap_rows
from speakerquant.report.table import interval_of
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.error_rates import error_rates
from speakerquant.statistics.uncertainty import Array

Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.bool_]
Rates = npt.NDArray[np.float64]

_LOSS = EER.delta
_TICKS = (0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40)  # percent, on the axes of a DET curve
_CURVE_POINTS = 200


@dataclass(frozen=True)
class Table:
    """Cells below headings; numbers from the second column on."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """What is shown of runs that may be compared.

    Attributes:
        title: What tells them from those of other sections; empty if there are none.
        tables: In order.
        pictures: In order, by their titles.
    """

    title: str
    tables: Sequence[Table]
    pictures: Mapping[str, Picture]

    def titled(self, title: str) -> str:
        """The heading of one of its tables or pictures."""
        return joined([title, self.title])


@dataclass(frozen=True)
class Report:
    """What people look at.

    Attributes:
        title: What was run.
        facts: What was measured, by name.
        missing: What is not shown, and why, in lines.
        sections: In order, one for the runs of each list and scoring.
        recommendation: What searches recommend of these runs, in lines.
        ranges: Ranges of the layers: of each network and each way of calibrating it, as a section.
        commands: What measured each run, by its name.
    """

    title: str
    facts: Mapping[str, str]
    missing: Sequence[str]
    sections: Sequence[Section]
    recommendation: Sequence[str]
    ranges: Sequence[Section]
    commands: Mapping[str, str]


@dataclass(frozen=True)
class ScoredRun:
    """A run with what it has kept.

    Attributes:
        run: The run.
        scores: ``[num_trials]``.
        draws: Error metrics on every draw of the speakers ``[num_replicates]``, by name.
        labels: ``[num_trials]``, true for target trials.
        ranges: Of its layers.
    """

    run: MaskRun
    scores: Scores | None = None
    labels: Labels | None = None
    ranges: CalibrationTable | None = None
    draws: Mapping[str, Array] | None = None


def compare_runs(
    title: str, scored: Sequence[ScoredRun], recommendation: Sequence[str] = (), missing: Sequence[str] = ()
) -> Report:
    """A report of the runs that finished, which says what did not.

    Args:
        title: What was run.
        scored: The runs.
        recommendation: What searches recommend of them, in lines.
        missing: What else is not shown, and why, in lines.

    Raises:
        UserError: none finished.
    """
    named = name_runs([each.run for each in scored])
    finished = [each for each in named if not each.run.failure]
    if not finished:
        raise UserError(f"{title}: none of its {len(scored)} runs finished; there is nothing to report")
    colors = precision_colors(each.run for each in finished)
    return Report(
        title,
        _stated(finished),
        [*missing, *unfinished_lines(named)],
        [_section(group, scored, colors) for group in comparable_runs(finished)],
        recommendation,
        _ranges_sections(finished, scored),
        {each.name: each.run.command for each in finished if each.run.command},
    )


def _section(group: ComparableRuns, scored: Sequence[ScoredRun], colors: Mapping[str, str]) -> Section:
    alone = _units_alone(group.runs)
    pictures = {
        "Size and error": replace(runs_picture(group, colors), title=""),
        "Loss and bytes saved, each unit alone": _sensitivity(alone, colors),
        "Latency and size": _latencies(group.runs),
        "Detection error trade-off": _curves(group.runs, scored),
        "Loss by group": groups_picture(group.finished, COLORS[1:]),
    }
    tables = [
        Table("Runs", *run_rows(group)),
        _sensitivity_table(alone),
        Table("Swapping it in", *swap_rows(group.finished)),
        Table("For whom it loses", *group_rows(group.finished)),
    ]
    return Section(
        joined(group.words),
        [table for table in tables if table.rows],
        {name: picture for name, picture in pictures.items() if any(each.marks for each in picture.series)},
    )


def _stated(named: Sequence[NamedRun]) -> dict[str, str]:
    """What holds for all runs, each once; what differs, with the words of the runs for which it holds."""
    found: dict[str, dict[str, list[NamedRun]]] = {}
    for each in named:
        for facts in (each.run.facts, each.run.made_with, each.run.environment):
            for name, value in facts.items():
                found.setdefault(name, {}).setdefault(value, []).append(each)
    stated = {
        name: ", ".join(
            f"{value} ({joined(words)})" if len(values) > 1 and (words := common_words(those)) else value
            for value, those in values.items()
        )
        for name, values in found.items()
    }
    return common_options([each.run for each in named]) | stated


@dataclass(frozen=True)
class _Alone:
    """A run in which one unit alone leaves the baseline, and the MB that this saves."""

    unit: str
    precision: str
    saved: float
    run: MaskRun

    @property
    def loss(self) -> str:
        """The difference from the baseline's EER, with its interval."""
        [cell] = metric_cells([_LOSS], self.run.metrics)
        return cell


def _units_alone(runs: Sequence[NamedRun]) -> list[_Alone]:
    found = []
    for each in runs:
        run = each.run
        changed = [(unit, precision) for unit, precision in run.mask.items() if precision != BASELINE.name]
        if len(changed) == 1:
            size, ratio = run.metrics[ENGINE_SIZE.name], run.metrics[SIZE_RATIO.name]
            [(unit, precision)] = changed
            saved = ENGINE_SIZE.scale * (size / ratio - size)
            found.append(_Alone(each.with_words(unit), precision, saved, run))
    return found


def _sensitivity_table(alone: Sequence[_Alone]) -> Table:
    headings = ["unit", "precision", "MB saved", _LOSS.label]
    rows = [[each.unit, each.precision, f"{each.saved:.3f}", each.loss] for each in alone]
    return Table("Each unit alone", headings, rows)


def _sensitivity(alone: Sequence[_Alone], colors: Mapping[str, str]) -> Picture:
    marks: dict[str, list[Mark]] = {}
    for each in alone:
        text = f"{each.unit} in {each.precision}: {each.saved:.3f} MB saved, ΔEER {each.loss} %"
        interval = interval_of(_LOSS, each.run.metrics)
        mark = Mark(each.saved, each.run.metrics[_LOSS.name], text, each.unit, interval)
        marks.setdefault(each.precision, []).append(mark)
    series = [
        Series(precision, found, Style(colors[precision], size=6)) for precision, found in marks.items()
    ]
    return Picture("", "MB saved", _LOSS.label, series)


def _latencies(runs: Sequence[NamedRun]) -> Picture:
    marks = [
        Mark(
            each.run.metrics[ENGINE_SIZE.name] / 1e6,
            each.run.metrics[LATENCY.name],
            f"{each.name}: {each.run.metrics[LATENCY.name]:.1f} ms, "
            f"{each.run.metrics[ENGINE_SIZE.name] / 1e6:.3f} MB",
            each.name,
        )
        for each in runs
        if LATENCY.name in each.run.metrics
    ]
    return Picture("", ENGINE_SIZE.label, LATENCY.label, [Series("", marks, Style("steelblue", 6))])


def _curves(runs: Sequence[NamedRun], scored: Sequence[ScoredRun]) -> Picture:
    """Misses against false alarms on normal deviates (Martin et al.: "The DET curve", Eurospeech 1997)."""
    series = []
    for number, each in enumerate(runs):
        scores, labels = scored[each.number].scores, scored[each.number].labels
        if scores is None or labels is None:
            continue
        far, frr = error_rates(scores, labels)
        inside = (far > 0) & (far < 0.5) & (frr > 0) & (frr < 0.5)
        marks = [
            Mark(ndtri(a), ndtri(m), f"{each.name}: false alarms {100 * a:.3g} %, misses {100 * m:.3g} %")
            for a, m in _along_the_curve(far[inside], frr[inside])
        ]
        series.append(Series(each.name, marks, Style(COLORS[number % len(COLORS)], 0, has_line=True)))
    ticks = {float(ndtri(percent / 100)): f"{percent:g}" for percent in _TICKS}
    return Picture("", "false alarms %", "misses %", series, ticks, ticks)


def _along_the_curve(far: Rates, frr: Rates) -> Rates:
    """Points of a curve at even distances as it is drawn, ``[num_points, 2]``."""
    points = np.stack([far, frr], axis=1)
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(ndtri(points), axis=0).T))])
    places = np.searchsorted(way[: len(points)], np.linspace(0, way[-1], _CURVE_POINTS))
    return points[np.unique(places[places < len(points)])]


def _ranges_sections(named: Sequence[NamedRun], scored: Sequence[ScoredRun]) -> list[Section]:
    """Each of the ranges that runs have kept, with what these runs have in common."""
    tables: dict[str, CalibrationTable] = {}
    users: dict[str, list[NamedRun]] = {}
    for each in named:
        if ranges := scored[each.number].ranges:
            users.setdefault(ranges.digest, []).append(each)
            tables[ranges.digest] = ranges
    return [
        Section(joined(common_words(users[key])), [_ranges_table(ranges)], _ranges_pictures(ranges))
        for key, ranges in tables.items()
    ]


def _ranges_table(ranges: CalibrationTable) -> Table:
    rows = [
        [layer, *(f"{value:.4g}" for value in (amax, weights.min(), np.median(weights), weights.max()))]
        for layer, amax in ranges.input_ranges.items()
        for weights in [ranges.weight_ranges[layer]]
    ]
    channels = [f"weights to ±, {which} channel" for which in ("smallest", "median", "largest")]
    return Table("Ranges of the layers", ["layer", f"inputs to ± ({ranges.method})", *channels], rows)


def _ranges_pictures(ranges: CalibrationTable) -> dict[str, Picture]:
    """Largest input and weight of each layer; one whose weights differ much by channel has a long bar."""
    inputs, weights = [], []
    for place, (layer, amax) in enumerate(ranges.input_ranges.items(), start=1):
        channels = ranges.weight_ranges[layer]
        inputs.append(Mark(place, amax, f"{layer}: inputs to ±{amax:.4g}"))
        low, middle, high = float(channels.min()), float(np.median(channels)), float(channels.max())
        text = f"{layer}: weights to ±{middle:.4g} in the median channel, ±{low:.4g} to ±{high:.4g}"
        weights.append(Mark(place, middle, text, interval=(low, high)))
    return {
        f"Ranges of {what}, layer by layer": Picture(
            "", "layer", "largest magnitude", [Series("", marks, style)]
        )
        for what, marks, style in (
            ("inputs", inputs, Style(COLORS[1], 6)),
            ("weights (median channel, from smallest to largest)", weights, Style(COLORS[2], 6)),
        )
    }
