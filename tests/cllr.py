"""A metric such as somebody may add to the project."""

import numpy as np

from speakerquant.statistics.error_rates import ScoredTrials
from speakerquant.statistics.metric import Direction, ErrorMetric


def _compute(trials: ScoredTrials) -> float:
    """Scores as log-likelihood ratios (Brümmer and du Preez, 2006)."""
    bits = np.logaddexp(0, np.where(trials.targets, -trials.scores, trials.scores)) / np.log(2)
    kinds = trials.targets, ~trials.targets
    return float(np.mean([np.average(bits[kind], weights=trials.weights[kind]) for kind in kinds]))


CLLR = ErrorMetric("cllr", "Cllr", "", Direction.minimize, compute=_compute)
