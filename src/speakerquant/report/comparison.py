"""What is put into a report: tables and pictures of runs that may be compared."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from speakerquant.errors import UserError
from speakerquant.measuring.engine_metrics import ENGINE_SIZE, LATENCY, SIZE_RATIO
from speakerquant.measuring.result import MaskRun
from speakerquant.quantization.precision import BASELINE
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.report.metric_cells import metric_cells
from speakerquant.report.multirun_report import COLORS, runs_picture
from speakerquant.report.picture import Mark, Picture, Series, Style
from speakerquant.report.published_columns import PublishedColumns
from speakerquant.report.run_words import run_cells, run_headings
from speakerquant.report.table import interval_of
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.error_rates import error_rates

Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.bool_]

_LOSS = EER.delta
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40)  # percent, on the axes of a DET curve
_CURVE_POINTS = 200
_NAMED_CURVES = 12  # of more, the legend would take the page; hovering names them


@dataclass(frozen=True)
class Table:
    """Cells below headings; numbers from the second column on."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report:
    """What people look at.

    Attributes:
        title: What was run.
        facts: What all runs have in common, by name.
        tables: In order.
        pictures: In order, by their titles.
        details: Further tables, in order, which few will read.
        commands: What measured each run, by its name.
    """

    title: str
    facts: Mapping[str, str]
    tables: Sequence[Table]
    pictures: Mapping[str, Picture]
    details: Sequence[Table]
    commands: Mapping[str, str]


@dataclass(frozen=True)
class ScoredRun:
    """A run with what it scored, if that was kept.

    Attributes:
        run: The run.
        scores: ``[num_trials]``.
        labels: ``[num_trials]``, true for target trials.
    """

    run: MaskRun
    scores: Scores | None = None
    labels: Labels | None = None


def compare_runs(title: str, scored: Sequence[ScoredRun], ranges: CalibrationTable | None = None) -> Report:
    """A report of the runs that finished.

    Args:
        title: What was run.
        scored: The runs.
        ranges: Of their layers, if they were kept.

    Raises:
        UserError: none finished, or they were measured on different lists or checkpoints.
    """
    finished = [each for each in scored if not each.run.failure]
    if not finished:
        raise UserError(f"{title}: none of its {len(scored)} runs finished; there is nothing to report")
    runs = [each.run for each in finished]
    facts, alone = _common_facts(runs), _units_alone(runs)
    pictures = {
        "Size and loss": runs_picture(runs),
        "Loss and bytes saved, each unit alone": _sensitivity(alone),
        "Latency and size": _latencies(runs),
        "Detection error trade-off": _curves(finished),
        **(_ranges_pictures(ranges) if ranges else {}),
    }
    published = PublishedColumns(runs)
    tables = [
        Table("Runs", run_headings(published), [run_cells(run, published) for run in runs]),
        _sensitivity_table(alone),
    ]
    return Report(
        title,
        facts,
        tables,
        {name: picture for name, picture in pictures.items() if any(each.marks for each in picture.series)},
        [_ranges_table(ranges)] if ranges else [],
        {run.name: run.command for run in runs if run.command},
    )


def _common_facts(runs: Sequence[MaskRun]) -> dict[str, str]:
    """Facts and environment of all runs.

    Raises:
        UserError: runs differ in a fact.
    """
    for name in runs[0].facts:
        found = {run.facts.get(name, "unknown") for run in runs}
        if len(found) > 1:
            differing = next(run for run in runs if run.facts.get(name) != runs[0].facts[name])
            raise UserError(
                f"runs of another {name} are not compared: {runs[0].name} has {runs[0].facts[name][:12]}, "
                f"{differing.name} has {differing.facts.get(name, 'none')[:12]}; report them apart"
            )
    environment: dict[str, list[str]] = {}
    for run in runs:
        for name, value in run.environment.items():
            values = environment.setdefault(name, [])
            if value not in values:
                values.append(value)
    return {**runs[0].facts, **{name: ", ".join(values) for name, values in environment.items()}}


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


def _units_alone(runs: Sequence[MaskRun]) -> list[_Alone]:
    found = []
    for run in runs:
        changed = [(unit, precision) for unit, precision in run.mask.items() if precision != BASELINE.name]
        if len(changed) == 1:
            size, ratio = run.metrics[ENGINE_SIZE.name], run.metrics[SIZE_RATIO.name]
            found.append(_Alone(*changed[0], ENGINE_SIZE.scale * (size / ratio - size), run))
    return found


def _sensitivity_table(alone: Sequence[_Alone]) -> Table:
    headings = ["unit", "precision", "MB saved", _LOSS.label]
    rows = [[each.unit, each.precision, f"{each.saved:.3f}", each.loss] for each in alone]
    return Table("Each unit alone", headings, rows)


def _sensitivity(alone: Sequence[_Alone]) -> Picture:
    marks: dict[str, list[Mark]] = {}
    for each in alone:
        text = f"{each.unit} in {each.precision}: {each.saved:.3f} MB saved, ΔEER {each.loss} %"
        interval = interval_of(_LOSS, each.run.metrics)
        mark = Mark(each.saved, each.run.metrics[_LOSS.name], text, each.unit, interval)
        marks.setdefault(each.precision, []).append(mark)
    series = [
        Series(precision, found, Style(color, size=6))
        for (precision, found), color in zip(marks.items(), itertools.cycle(COLORS[1:]), strict=False)
    ]
    return Picture("", "MB saved", _LOSS.label, series)


def _latencies(runs: Sequence[MaskRun]) -> Picture:
    marks = [
        Mark(
            run.metrics[ENGINE_SIZE.name] / 1e6,
            run.metrics[LATENCY.name],
            f"{run.name}: {run.metrics[LATENCY.name]:.1f} ms, {run.metrics[ENGINE_SIZE.name] / 1e6:.3f} MB",
            run.name,
        )
        for run in runs
        if LATENCY.name in run.metrics
    ]
    return Picture("", ENGINE_SIZE.label, LATENCY.label, [Series("", marks, Style("steelblue", 6))])


def _curves(scored: Sequence[ScoredRun]) -> Picture:
    """Misses against false alarms on normal deviates (Martin et al.: "The DET curve", Eurospeech 1997)."""
    series = []
    for number, each in enumerate(scored):
        if each.scores is None or each.labels is None:
            continue
        far, frr = error_rates(each.scores, each.labels)
        inside = np.flatnonzero((far > 0) & (far < 0.5) & (frr > 0) & (frr < 0.5))
        chosen = inside[np.linspace(0, len(inside) - 1, min(_CURVE_POINTS, len(inside))).astype(int)]
        marks = [
            Mark(x, y, f"{each.run.name}: false alarms {100 * a:.2f} %, misses {100 * m:.2f} %")
            for x, y, a, m in zip(
                norm.ppf(far[chosen]), norm.ppf(frr[chosen]), far[chosen], frr[chosen], strict=True
            )
        ]
        name = each.run.name if len(scored) <= _NAMED_CURVES else ""
        series.append(Series(name, marks, Style(COLORS[number % len(COLORS)], 0, has_line=True)))
    ticks = {float(norm.ppf(percent / 100)): f"{percent:g}" for percent in _TICKS}
    return Picture("", "false alarms %", "misses %", series, ticks)


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
