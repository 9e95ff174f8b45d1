"""Columns of tables with what others have published of the same masks."""

from collections.abc import Sequence

from speakerquant.measuring.engine_metrics import ENGINE_SIZE, SIZE_RATIO
from speakerquant.measuring.result import MaskRun
from speakerquant.report.metric_cells import metric_cells
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.metric import Metric

_METRICS = (EER, EER.delta, ENGINE_SIZE, SIZE_RATIO)


class PublishedColumns:
    """The columns of a table of these runs: none if nothing is published of any.

    Attributes:
        label: What the publication is called.
        metrics: What the columns show.
    """

    def __init__(self, runs: Sequence[MaskRun]) -> None:
        self.label = published_label(runs)
        self.metrics: Sequence[Metric] = _METRICS if self.label else ()

    @property
    def headings(self) -> list[str]:
        """What stands above :meth:`cells`."""
        return [f"{self.label}'s {metric.label}" for metric in self.metrics]

    def cells(self, run: MaskRun) -> list[str]:
        """What is published of a run's mask."""
        return metric_cells(self.metrics, run.published.numbers if run.published else {})


def published_label(runs: Sequence[MaskRun]) -> str:
    """What the publication is called that there are numbers of; empty if there are none."""
    return " and ".join(dict.fromkeys(run.published.label for run in runs if run.published))
