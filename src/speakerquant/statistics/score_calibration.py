"""Scores as log-likelihood ratios, and what they cost as such.

Brümmer and du Preez: "Application-independent evaluation of speaker detection", Computer Speech and Language,
2006.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScoreCalibration:
    """An affine map from scores to natural log-likelihood ratios.

    Attributes:
        slope: What a score is multiplied by.
        offset: What is added.
    """

    slope: float
    offset: float

    @classmethod
    def fitted(cls, scores: Array, labels: npt.NDArray[np.bool_]) -> "ScoreCalibration":
        """By logistic regression in which both kinds of trial count the same.

        Args:
            scores: ``[num_trials]``.
            labels: True for target trials; both kinds must be there.
        """
        from sklearn.linear_model import LogisticRegression  # takes a second, for which only who fits waits

        deviation = float(np.std(scores)) or 1.0  # the solver converges on scores of any scale
        regression = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-8, max_iter=1000)
        regression.fit(scores[:, np.newaxis] / deviation, labels)
        return cls(float(regression.coef_[0, 0]) / deviation, float(regression.intercept_[0]))

    def ratio(self, score: float) -> float:
        """Natural log-likelihood ratio of a score."""
        return float(self.ratios(np.asarray(score)))

    def ratios(self, scores: Array) -> Array:
        """Natural log-likelihood ratios of scores."""
        return self.slope * scores + self.offset


def costs_in_bits(ratios: Array, labels: npt.NDArray[np.bool_]) -> Array:
    """What each trial's log-likelihood ratio costs, in bits; the mean of both kinds' means is Cllr."""
    costs: Array = np.logaddexp(0.0, np.where(labels, -ratios, ratios)) / np.log(2)
    return costs


def cllr(ratios: Array, labels: npt.NDArray[np.bool_]) -> float:
    """The cost of log-likelihood ratios, in bits: 0 for perfect ones, 1 for those that say nothing."""
    costs = costs_in_bits(ratios, labels)
    return float((costs[labels].mean() + costs[~labels].mean()) / 2)


def min_cllr(scores: Array, labels: npt.NDArray[np.bool_]) -> float:
    """The Cllr of the best rising map from scores to ratios, found by pooling adjacent violators."""
    from sklearn.isotonic import IsotonicRegression  # as above

    odds = labels.mean() / (~labels).mean()
    posterior = IsotonicRegression(y_min=0.0, y_max=1.0).fit_transform(scores, labels.astype(np.float64))
    targets, others = posterior[labels], posterior[~labels]
    costs = np.log1p(odds * (1 - targets) / targets), np.log1p(others / (1 - others) / odds)
    return float(sum(each.mean() for each in costs) / 2 / np.log(2))
