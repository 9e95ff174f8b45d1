"""How sure error rates and their differences are: a paired bootstrap over the speakers of a trial list.

Trials that share a speaker depend on each other, so speakers are drawn, with replacement, and not trials (the
subset bootstrap of Bolle, Ratha and Pankanti: "Error analysis of pattern recognition systems: the subsets
bootstrap", 2004; for speaker verification Bengio and Mariéthoz: "A statistical significance test for person
authentication", Odyssey 2004, and Poh and Bengio, 2007). A speaker who is drawn n times counts n times: a
trial of this speaker n times, a trial of two speakers as often as the product of both. The recordings of a
drawn speaker are all taken, as is done with clusters of two levels (Davison and Hinkley: "Bootstrap methods
and their application", 1997, section 3.8). Two systems are compared on the same draws.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import stdtrit

from speakerquant.errors import UserError
from speakerquant.statistics.error_rates import ScoredTrials, turning_points
from speakerquant.statistics.metric import ErrorMetric

Array = npt.NDArray[np.float64]
BooleanArray = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.integer]

CONFIDENCE = 0.95
_TAILS = 100 * (1 - CONFIDENCE) / 2, 100 * (1 + CONFIDENCE) / 2
FEWEST_SPEAKERS = 3
"""Of a list: every draw of two with trials of both kinds holds each once."""
RELIABLE_SPEAKERS = 20
"""From about so many on intervals of differences hold what they say (docs/uncertainty.md)."""
_THREADS = 2
_MOST_DRAWS, _MOST_NUMBERS = 128, 2**22  # at once


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
        is_expected: Whether an end is the one to be expected of such a list, since draws show none.
    """

    value: float
    p: float
    is_expected: bool = False

    @property
    def is_tie(self) -> bool:
        """Whether the interval has zero in it: nothing shows which of the two is better."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class _Pairs:
    """The pairs of speakers that trials are of, those of non-target trials before those of target trials.

    Attributes:
        left: Row of a draw's counts for the first speaker of each, ``[num_pairs]``.
        right: For the second.
        num_others: How many are of non-target trials.
        of_trials: The place of each trial's, ``[num_trials]``.
    """

    left: Indices
    right: Indices
    num_others: int
    of_trials: Indices

    @property
    def of_kinds(self) -> tuple[slice, slice]:
        """Those of non-target trials, and those of target trials."""
        return slice(self.num_others), slice(self.num_others, None)


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
        UserError: there are one or two speakers only.
    """

    left: Indices
    right: Indices
    labels: BooleanArray
    num_replicates: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_speakers < FEWEST_SPEAKERS:
            raise UserError(
                f"uncertainty: intervals need a list of {FEWEST_SPEAKERS} speakers or more, and the trials "
                f"are of {self.num_speakers}"
            )

    @cached_property
    def num_speakers(self) -> int:
        """How many speakers there are."""
        return int(max(self.left.max(), self.right.max())) + 1

    def replicates(self, scores: Array, metrics: Sequence[ErrorMetric]) -> Array:
        """Metrics of a system on every draw, ``[num_metrics, num_replicates]``.

        A draw without target or without non-target trials is NaN.

        Args:
            scores: ``[num_trials]``, in the order of the list.
            metrics: What is computed of each draw.
        """
        order = np.argsort(scores)
        rising, targets = scores[order], self.labels[order]
        pairs = self._pairs
        pair_of_trial = pairs.of_trials[order]
        turns = turning_points(rising, targets)
        # How many trials of each pair lie between two operating points, others in the first half of rows.
        rows = np.searchsorted(turns, np.arange(len(rising)), side="right") + targets * len(turns)
        between = csr_array((np.ones(len(rising)), (rows, pair_of_trial)), (2 * len(turns), len(pairs.left)))

        def judge(draws: slice) -> list[list[float]]:
            weights = self._weights(draws)
            rejected, missed = np.cumsum((between @ weights).reshape(2, len(turns), -1), axis=1)
            with np.errstate(invalid="ignore"):  # a draw without trials of a kind
                far, frr = (
                    np.ascontiguousarray(each.T)
                    for each in (1 - rejected / rejected[-1], missed / missed[-1])
                )
            has_both = (rejected[-1] * missed[-1]).astype(np.bool_)

            def drawn(place: int) -> ScoredTrials:
                return ScoredTrials(
                    *(rising, targets, far[place], frr[place]), lambda: weights[pair_of_trial, place]
                )

            return [
                [metric.compute(drawn(place)) for metric in metrics]
                if has_both[place]
                else [np.nan] * len(metrics)
                for place in range(len(far))
            ]

        with ThreadPoolExecutor(_THREADS) as pool:
            judged = list(pool.map(judge, self._parts(len(pairs.left) + between.shape[0])))
        return np.concatenate(judged).T

    def means(self, values: Iterable[Array | BooleanArray]) -> tuple[Array, Array]:
        """Means of numbers of trials, over the list's non-target trials and over its target trials.

        Args:
            values: Each ``[num_trials]``.

        Returns:
            Of the list, ``[2, num_values]``; and of every draw, ``[2, num_values, num_replicates]``, NaN for
            draws without trials of the kind.
        """
        pairs, kinds = self._pairs, (~self.labels, self.labels)
        of_list, of_pairs = [], []
        for each in values:
            of_list.append([each[kind].mean() for kind in kinds])
            of_pairs.append(np.bincount(pairs.of_trials, each, len(pairs.left)))
        of_pairs.append(np.bincount(pairs.of_trials, minlength=len(pairs.left)))
        stacked = np.array(of_pairs, np.float64)
        sums = np.concatenate(
            [
                [stacked[:, each] @ weights[each] for each in pairs.of_kinds]
                for draws in self._parts(len(pairs.left))
                for weights in [self._weights(draws)]
            ],
            axis=2,
        )
        with np.errstate(invalid="ignore"):
            return np.array(of_list).T, sums[:, :-1] / sums[:, -1:]

    @cached_property
    def _counts(self) -> Array:
        """How often each speaker is drawn, ``[num_speakers + 1, num_replicates]``; the last row is 1."""
        shares = np.full(self.num_speakers, 1 / self.num_speakers)
        drawn = np.random.default_rng(self.seed).multinomial(
            self.num_speakers, shares, size=self.num_replicates
        )
        return np.pad(drawn.T.astype(np.float64), ((0, 1), (0, 0)), constant_values=1)

    @cached_property
    def _pairs(self) -> "_Pairs":
        # A trial of one speaker counts as often as the last row says for a second one.
        right = np.where(self.left == self.right, self.num_speakers, self.right)
        width = self.num_speakers + 1
        pairs, of_trials = np.unique(
            (self.labels * width + self.left.astype(np.int64)) * width + right, return_inverse=True
        )
        kinds_and_left, rights = divmod(pairs, width)
        kinds, lefts = divmod(kinds_and_left, width)
        return _Pairs(lefts, rights, int(np.searchsorted(kinds, 1)), of_trials)

    def _weights(self, draws: slice) -> Array:
        """How often a trial of each pair of speakers counts in some draws, ``[num_pairs, num_draws]``."""
        counts = np.ascontiguousarray(self._counts[:, draws])
        weights: Array = counts[self._pairs.left]
        weights *= counts[self._pairs.right]
        return weights

    def _parts(self, rows: int) -> list[slice]:
        """All draws in parts, for each of which there is room for so many rows with one column a draw."""
        size = max(1, min(_MOST_DRAWS, _MOST_NUMBERS // rows))
        return [slice(start, start + size) for start in range(0, self.num_replicates, size)]

    def interval(self, value: float, replicates: Array, largest: float = np.inf) -> Interval:
        """The interval of an error metric, such as an EER.

        Rates are skewed, and few speakers are drawn too much alike: Student's t with one degree of freedom
        less than there are speakers, times the deviation of the replicates, on a logarithmic axis. With fewer
        than 100 speakers it is still a little too narrow (docs/uncertainty.md).

        Args:
            value: On the list.
            replicates: On every draw.
            largest: The most that it can be, at which the interval ends at the latest.
        """
        if not value > 0:
            return Interval(0.0, float(np.nanpercentile(replicates, _TAILS[1])))
        freedom = self.num_speakers - 1
        deviation = float(np.nanstd(replicates, ddof=1)) * np.sqrt(self.num_speakers / freedom)
        factor = np.exp(float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * deviation / value)
        return Interval(float(value / factor), float(min(largest, value * factor)))


def difference(value: float, replicates: Array, baseline: Array) -> Difference:
    """The interval of the difference between two systems' rates, by percentiles of that on the same draws.

    So few draws never show that a difference is impossible: its own counts as one of them (Davison and
    Hinkley: "Bootstrap Methods and their Application", 1997, section 4.2.1).
    """
    differences = replicates - baseline
    differences = differences[np.isfinite(differences)]
    low, high = np.percentile(differences, _TAILS)
    smaller_tail = 1 + min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return Difference(float(low), float(high), value, min(1.0, 2 * smaller_tail / (1 + len(differences))))
