"""The error metrics that runs are measured by."""

import re
from collections.abc import Sequence

from speakerquant.statistics.error_rates import ScoredTrials, crossing, lowest_cost
from speakerquant.statistics.metric import Direction, ErrorMetric, Metric

_MIN_DCF = "min_dcf"
_FURTHER = re.compile(rf"{_MIN_DCF}_(\d+(?:\.\d+)?(?:e-?\d+)?)")

_BY_NAME: dict[str, ErrorMetric] = {}


def register(metric: ErrorMetric) -> ErrorMetric:
    """Have every run measure a metric.

    Raises:
        ValueError: another metric has the name.
    """
    if metric.name in _BY_NAME:
        raise ValueError(f"the metric {metric.name} is registered already")
    _BY_NAME[metric.name] = metric
    return metric


EER = register(
    ErrorMetric(
        *("eer", "EER", "%", Direction.minimize),
        compute=lambda trials: crossing(trials.far, trials.frr),
        largest=100.0,
    )
)


def error_metrics(p_targets: Sequence[float]) -> tuple[ErrorMetric, ...]:
    """The registered metrics, and the minDCF at each of these priors.

    It is ``min_dcf`` at the first prior and ``min_dcf_<prior>`` at others.
    """
    first, *others = p_targets
    return (*_BY_NAME.values(), _min_dcf(first, _MIN_DCF, "minDCF"), *map(_further_min_dcf, others))


def error_number(name: str) -> Metric | None:
    """The description of one of :attr:`ErrorMetric.numbers` by its name; none of another number."""
    priors = [float(prior) for prior in _FURTHER.findall(name)]
    metrics = [*error_metrics([0.01]), *map(_further_min_dcf, priors)]
    return next((each for metric in metrics for each in metric.numbers if each.name == name), None)


def _further_min_dcf(p_target: float) -> ErrorMetric:
    return _min_dcf(p_target, f"{_MIN_DCF}_{p_target:g}", f"minDCF at {p_target:g}")


def _min_dcf(p_target: float, name: str, heading: str) -> ErrorMetric:
    def compute(trials: ScoredTrials) -> float:
        return lowest_cost(trials.far, trials.frr, p_target)

    return ErrorMetric(
        *(name, heading, "", Direction.minimize),
        compute=compute,
        settings=f"p_target={p_target}",
        largest=1.0,
    )
