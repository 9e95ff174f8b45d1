"""Numbers of runs in the cells of tables."""

from collections.abc import Iterable, Mapping

from speakerquant.report.table import number_cells
from speakerquant.statistics.metric import Metric


def metric_cells(metrics: Iterable[Metric], numbers: Mapping[str, float]) -> list[str]:
    """The values of metrics as they are shown, with their intervals.

    Args:
        metrics: What is shown.
        numbers: Values by name.
    """
    return number_cells({metric.name: metric for metric in metrics}, numbers)
