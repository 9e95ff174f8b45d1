"""What intervals a trial list can be expected to give, by its speakers and trials, before a network has run.

Near the EER one miss more among N target trials adds 1 / N to the FRR, and the EER moves by half of what FRR
and FAR move together. Trials of one speaker err alike, so that N of them tell as much as N / (1 + r (n - 1))
independent ones, where n are of each speaker and r is the correlation of their errors (the design effect:
Kish: "Survey sampling", 1965). A difference between two systems comes from trials that one of them decides
otherwise; of two normal scores whose correlation is c these are, near the threshold, the density there times
the mean distance of the scores, which is 2 sqrt((1 - c) / pi).

The correlations of errors are assumed; docs/uncertainty.md compares what follows with what was measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from speakerquant.statistics.uncertainty import CONFIDENCE, Indices, Interval

MISSES_ALIKE, FALSE_ACCEPTS_ALIKE = 0.15, 0.03
"""Assumed correlation of errors: of two target trials of a speaker, of two other trials that share one."""

POWER = 0.8
"""Share of such lists whose interval of a difference is to leave zero out."""

_CHANGES_ALIKE = 1 / 15  # of these, that of the trials which two systems decide differently


@dataclass(frozen=True)
class ExpectedIntervals:
    """The intervals that a list of trials can be expected to give.

    Attributes:
        left: Speaker of the first recording of each trial, ``[num_trials]``, counted from 0.
        right: Speaker of the second.
        labels: ``[num_trials]``, true for target trials; both kinds are there.
    """

    left: Indices
    right: Indices
    labels: npt.NDArray[np.bool_]

    def of_eer(self, eer: float) -> Interval:
        """That of an EER in percent, in percent."""
        share = eer / 100
        deviation = np.sqrt(share * (1 - share) * self._mean_of_rates(1.0))
        factor = np.exp(self._quantile() * deviation / share)
        return Interval(float(eer / factor), float(min(100.0, eer * factor)))

    def half_width_of_difference(self, eer: float, alike: float) -> float:
        """Half of that of the difference between two systems' EERs, in percent.

        Args:
            eer: Of both, in percent.
            alike: Correlation of their scores of trials of one kind.
        """
        density = np.exp(-(ndtri(eer / 100) ** 2) / 2) / np.sqrt(2 * np.pi)
        changed = density * 2 * np.sqrt((1 - alike) / np.pi)
        return float(100 * self._quantile() * np.sqrt(changed * self._mean_of_rates(_CHANGES_ALIKE)))

    def shown_difference(self, eer: float, alike: float) -> float:
        """The least difference between two EERs that a share ``POWER`` of such lists show, in percent.

        It is more than half of its interval, which half of the lists would show: the difference that a list
        finds lies as often below the true one as above.

        Args:
            eer: Of both, in percent.
            alike: Correlation of their scores of trials of one kind.
        """
        above = self._quantile(POWER) / self._quantile()
        return (1 + above) * self.half_width_of_difference(eer, alike)

    def num_trials_of_speakers(self, *, target: bool) -> Indices:
        """In how many trials of a kind each speaker is, ``[num_speakers]``."""
        return self._counts[target]

    @cached_property
    def _counts(self) -> Mapping[bool, Indices]:
        num_speakers = int(max(self.left.max(), self.right.max())) + 1

        def count(kind: npt.NDArray[np.bool_]) -> Indices:
            left, right = self.left[kind], self.right[kind]
            counts: Indices = np.bincount(left, minlength=num_speakers)
            return counts + np.bincount(right[left != right], minlength=num_speakers)

        return {True: count(self.labels), False: count(~self.labels)}

    def _quantile(self, probability: float = (1 + CONFIDENCE) / 2) -> float:
        freedom = max(1, np.count_nonzero(self.num_trials_of_speakers(target=True)) - 1)
        return float(stdtrit(freedom, probability))

    def _mean_of_rates(self, correlated: float) -> float:
        """The variance of the mean of FRR and FAR, by that of the error of a single trial."""
        return (
            self._of_rate(target=True, alike=correlated * MISSES_ALIKE)
            + self._of_rate(target=False, alike=correlated * FALSE_ACCEPTS_ALIKE)
        ) / 4

    def _of_rate(self, *, target: bool, alike: float) -> float:
        num_trials = float(np.count_nonzero(self.labels == target))
        counts = self.num_trials_of_speakers(target=target).astype(np.float64)
        return float(1 / num_trials + alike * (counts * (counts - 1)).sum() / num_trials**2)
