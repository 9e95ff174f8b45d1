"""How sure error rates and their differences are: a paired bootstrap over the speakers of a trial list.

Trials that share a speaker depend on each other, so speakers are drawn, with replacement, and not trials (the
subset bootstrap of Bolle, Ratha and Pankanti: "Error analysis of pattern recognition systems: the subsets
bootstrap", 2004; for speaker verification Bengio and Mariéthoz: "A statistical significance test for person
authentication", Odyssey 2004, and Poh and Bengio, 2007). A speaker who is drawn n times counts n times: a
trial of this speaker n times, a trial of two speakers as often as the product of both. The recordings of a
drawn speaker are all taken, as is done with clusters of two levels (Davison and Hinkley: "Bootstrap methods
and their application", 1997, section 3.8). Two systems are compared on the same draws.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import stdtrit

from speakerquant.errors import UserError
from speakerquant.statistics.error_rates import ScoredTrials
from speakerquant.statistics.metric import ErrorMetric

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.integer]

CONFIDENCE = 0.95
_TAILS = 100 * (1 - CONFIDENCE) / 2, 100 * (1 + CONFIDENCE) / 2
_THREADS = 2


@dataclass(frozen=True)
class Interval:
    """Where a quantity lies with 95 % confidence."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A difference, and where it lies with 95 % confidence.

    Attributes:
        value: What was found.
        p: How probable a difference as large as the one found is where there is none, two-sided.
    """

    value: float
    p: float

    @property
    def is_tie(self) -> bool:
        """Whether the interval has zero in it: nothing shows which of the two is better."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class SpeakerBootstrap:
    """Draws of the speakers of a trial list, the same for all systems that are scored on it.

    Two systems that are nearly alike: what is known of their EERs, and of the difference?

        >>> from speakerquant.statistics.error_metrics import EER
        >>> from speakerquant.statistics.error_rates import eer
        >>> left, right = (np.repeat(side, 20) for side in np.triu_indices(20))
        >>> generator = np.random.default_rng(0)
        >>> first = generator.normal(3.0 * (left == right), 1)
        >>> second = first + generator.normal(0, 0.1, len(first))
        >>> bootstrap = SpeakerBootstrap(left, right, left == right)
        >>> draws = [bootstrap.replicates(scores, [EER])[0] for scores in (first, second)]
        >>> found = [eer(scores, left == right) for scores in (first, second)]
        >>> interval = bootstrap.interval(found[0], draws[0])
        >>> print(f"{found[0]:.1f} [{interval.low:.1f}, {interval.high:.1f}]")
        6.6 [5.3, 8.2]
        >>> change = difference(found[1] - found[0], draws[1], draws[0])
        >>> print(f"{change.value:+.1f} [{change.low:+.1f}, {change.high:+.1f}]", change.is_tie)
        -0.1 [-0.9, +0.8] True

    Attributes:
        left: Speaker of the first recording of each trial, ``[num_trials]``, counted from 0.
        right: Speaker of the second.
        labels: ``[num_trials]``, true for target trials.
        num_replicates: How many times the speakers are drawn.
        seed: Seed of the draws.

    Raises:
        UserError: there is one speaker only.
    """

    left: Indices
    right: Indices
    labels: npt.NDArray[np.bool_]
    num_replicates: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_speakers < 2:
            raise UserError("uncertainty: all trials are of one speaker; intervals need a list of several")

    @cached_property
    def num_speakers(self) -> int:
        """How many speakers there are."""
        return int(max(self.left.max(), self.right.max())) + 1

    @cached_property
    def _counts(self) -> Array:
        """How often each speaker is drawn, ``[num_replicates, num_speakers + 1]``; the last column is 1."""
        shares = np.full(self.num_speakers, 1 / self.num_speakers)
        drawn = np.random.default_rng(self.seed).multinomial(
            self.num_speakers, shares, size=self.num_replicates
        )
        return np.pad(drawn.astype(np.float64), ((0, 0), (0, 1)), constant_values=1)

    def replicates(self, scores: Array, metrics: Sequence[ErrorMetric]) -> Array:
        """Metrics of a system on every draw, ``[num_metrics, num_replicates]``.

        A draw without target or without non-target trials is NaN.

        Args:
            scores: ``[num_trials]``, in the order of the list.
            metrics: What is computed of each draw.
        """
        order = np.argsort(scores)
        rising, targets = scores[order], self.labels[order]
        left, are_targets = self.left[order], targets.astype(np.float64)
        right = self._right[order]
        # Trials of equal score switch together: a threshold rejects nothing, or all up to the last of equals.
        ends = np.flatnonzero(np.append(rising[1:] != rising[:-1], True))

        def below_thresholds(weights: Array) -> Array:
            return np.concatenate([[0.0], np.cumsum(weights)[ends]])

        def judge(counts: Array) -> list[float]:
            weights = counts[left] * counts[right]
            missed = below_thresholds(weights * are_targets)
            rejected = below_thresholds(weights) - missed
            if not missed[-1] or not rejected[-1]:
                return [np.nan] * len(metrics)
            far, frr = 1 - rejected / rejected[-1], missed / missed[-1]
            drawn = ScoredTrials(rising, targets, weights, far, frr)
            return [metric.compute(drawn) for metric in metrics]

        with ThreadPoolExecutor(_THREADS) as pool:
            return np.array(list(pool.map(judge, self._counts))).T

    def sums(self, values: Array) -> Array:
        """Sums of a number of trials ``[num_trials]`` over every draw, ``[num_replicates]``."""
        lefts, rights, pair_of_trial = self._pairs
        starts = np.searchsorted(lefts, np.arange(self.num_speakers + 1))
        shape = (self.num_speakers, self.num_speakers + 1)
        of_pairs = csr_array((np.bincount(pair_of_trial, values, len(lefts)), rights, starts), shape)
        sums: Array = ((self._counts[:, :-1] @ of_pairs) * self._counts).sum(axis=1)
        return sums

    @cached_property
    def _right(self) -> Indices:
        """Column of ``_counts`` by which trials count again: of the second speaker, if it is another."""
        return np.where(self.left == self.right, self.num_speakers, self.right)

    @cached_property
    def _pairs(self) -> tuple[Indices, Indices, Indices]:
        """Columns of ``_counts`` of every pair that trials have, ordered, and the place of each trial's."""
        width = self.num_speakers + 1
        pairs, pair_of_trial = np.unique(
            self.left.astype(np.int64) * width + self._right, return_inverse=True
        )
        return *divmod(pairs, width), pair_of_trial

    def interval(self, value: float, replicates: Array) -> Interval:
        """The interval of an error metric, such as an EER.

        Rates are skewed, and few speakers are drawn too much alike: Student's t with one degree of freedom
        less than there are speakers, times the deviation of the replicates, on a logarithmic axis. With fewer
        than 100 speakers it is still a little too narrow (docs/uncertainty.md).
        """
        if not value > 0:
            return Interval(0.0, float(np.nanpercentile(replicates, _TAILS[1])))
        freedom = self.num_speakers - 1
        deviation = float(np.nanstd(replicates, ddof=1)) * np.sqrt(self.num_speakers / freedom)
        factor = np.exp(float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * deviation / value)
        return Interval(float(value / factor), float(value * factor))


def difference(value: float, replicates: Array, baseline: Array) -> Difference:
    """The interval of the difference between two systems' rates, by percentiles of that on the same draws."""
    differences = replicates - baseline
    differences = differences[np.isfinite(differences)]
    low, high = np.percentile(differences, _TAILS)
    smaller_tail = min((differences <= 0).mean(), (differences >= 0).mean())
    return Difference(float(low), float(high), value, float(min(1.0, 2 * smaller_tail)))
