"""Whether masks can take FP32's place in a product: a sentence for each, and a table."""

from collections.abc import Mapping, Sequence

from speakerquant.measuring.result import SWAP_PREFIX, MaskRun, below
from speakerquant.report.metric_cells import metric_cells
from speakerquant.report.run_names import NamedRun
from speakerquant.statistics.metric import ErrorMetric, Metric
from speakerquant.statistics.swap_metrics import (
    CLLR,
    EER_POINT,
    FALSE_ACCEPTS,
    FALSE_REJECTS,
    KEPT_EER,
    REFITTED_CLLR,
    SwapMetric,
    flips,
    points_among,
)

_MATTERS = 0.1  # of a rate of FP32
_FLIPS = flips(share_of_targets=0.5)  # the share is that of the list; name and heading are the same


def swap_lines(runs: Sequence[NamedRun]) -> list[str]:
    """For each mask but the baseline what can stay when it takes FP32's place, as far as the list shows."""
    return [f"{each.name}: {words}" for each in runs if (words := swap_words(each.run))]


def swap_words(run: MaskRun) -> str:
    """What can stay: FP32's threshold, its voiceprints; empty for the baseline and where it is not known."""
    numbers = below(SWAP_PREFIX, run.metrics)
    if not numbers or run.is_baseline:
        return ""
    rates = FALSE_REJECTS.at(EER_POINT), FALSE_ACCEPTS.at(EER_POINT)
    moved = ", ".join(
        f"{heading} {metric.text(numbers[metric.baseline.name])} -> {metric.text(numbers[metric.name])} %"
        for heading, metric in zip(("false rejects", "false accepts"), rates, strict=True)
    )
    changed = _FLIPS.at(EER_POINT)
    threshold = _can_stay("FP32's threshold", "be set", numbers, rates)
    voiceprints = _can_stay("FP32's voiceprints", "be made", numbers, [KEPT_EER])
    [delta] = metric_cells([KEPT_EER.delta], numbers)
    return (
        f"{threshold} ({moved}, {changed.text(numbers[changed.name])} % of decisions flip); {voiceprints} "
        f"(EER {KEPT_EER.text(numbers[KEPT_EER.name])} instead of "
        f"{KEPT_EER.text(numbers[KEPT_EER.baseline.name])} %, {delta})"
    )


def _can_stay(
    what: str, otherwise: str, numbers: Mapping[str, float], metrics: Sequence[ErrorMetric | SwapMetric]
) -> str:
    """Whether none of the metrics is shown to rise by a share that matters."""
    rises = any(
        numbers[metric.delta.low.name] > 0
        and numbers[metric.delta.name] > _MATTERS * numbers[metric.baseline.name]
        for metric in metrics
    )
    return f"{what} must {otherwise} anew" if rises else f"{what} can stay"


def swap_rows(runs: Sequence[NamedRun]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: what each run is called, and what changes where it takes FP32's place."""
    measured = [(each.name, numbers) for each in runs if (numbers := below(SWAP_PREFIX, each.run.metrics))]
    metrics: list[Metric] = []
    for point in dict.fromkeys(point for _, numbers in measured for point in points_among(numbers)):
        metrics += [FALSE_REJECTS.at(point).delta, FALSE_ACCEPTS.at(point).delta, _FLIPS.at(point)]
    metrics += [KEPT_EER.delta, CLLR.delta, REFITTED_CLLR.delta]
    metrics = [each for each in metrics if any(each.name in numbers for _, numbers in measured)]
    headings = ["mask", *(metric.label for metric in metrics)]
    return headings, [[name, *metric_cells(metrics, numbers)] for name, numbers in measured]
