"""Numbers of groups of trials: the worst of them, and how sure it is that any loses."""

from collections.abc import Mapping, Sequence

import numpy as np

from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.metric import Direction, Metric

WORST, WORST_HIGH = (
    each.derived(f"worst_group_{each.name}", f"{each.heading} of the worst group")
    for each in (EER.delta, EER.delta.high)
)
"""The largest of all groups' losses, and of their upper ends."""

HOLM = Metric(f"{EER.delta.p.name}_holm", f"{EER.delta.p.heading}, Holm", "", Direction.maximize)
"""How probable so large a difference is in any of so many groups where there is none (:func:`holm`)."""


def worst_group(groups: Mapping[str, Mapping[str, float]]) -> tuple[str, dict[str, float]]:
    """The group whose loss may be largest, and the largest loss and upper end of all groups, by name."""
    name = max(groups, key=lambda each: groups[each][EER.delta.high.name])
    return name, {
        worst.name: max(numbers[of.name] for numbers in groups.values())
        for worst, of in ((WORST, EER.delta), (WORST_HIGH, EER.delta.high))
    }


def holm(probabilities: Sequence[float]) -> list[float]:
    """Probabilities of several tests, each corrected for their number.

    Holm: "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics, 1979.
    """
    order = np.argsort(probabilities)
    factors = np.arange(len(order), 0, -1)
    rising = np.maximum.accumulate(factors * np.array(probabilities)[order])
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(rising, 1.0)
    found: list[float] = corrected.tolist()
    return found
