"""Error measures of a list of scored trials.

A trial is accepted when its score is at or above the threshold, so trials of equal score always switch
together. The operating points are all that a threshold can reach: one per distinct score, and the one
that rejects everything. At each, FAR is the share of non-target trials accepted and FRR (the miss rate)
the share of target trials rejected.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speakerquant.errors import UserError

Rates = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScoredTrials:
    """Trials of both kinds, by rising score.

    Attributes:
        scores: ``[num_trials]``, rising.
        targets: ``[num_trials]``, true for target trials.
        far: FAR of operating points, thresholds rising from accepting all to rejecting all: of all, or of
            those where the curve turns (:func:`turning_points`).
        frr: FRR of the same.
        weigh: Tells ``weights``, which few metrics ask for.
    """

    scores: npt.NDArray[np.floating]
    targets: npt.NDArray[np.bool_]
    far: Rates
    frr: Rates
    weigh: Callable[[], Rates]

    @property
    def weights(self) -> Rates:
        """How often each trial counts, ``[num_trials]``."""
        return self.weigh()

    @classmethod
    def of(cls, scores: npt.ArrayLike, labels: npt.ArrayLike) -> "ScoredTrials":
        """The trials of a list, each of which counts once; see :func:`eer`.

        Raises:
            UserError: as :func:`eer`.
        """
        scores, targets = _checked(scores, labels)
        order = np.argsort(scores)
        scores, targets = scores[order], targets[order]
        del order
        # how many trials each threshold rejects: all below one of the distinct scores, or all
        rejected = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1], [True]]))
        targets_below = np.concatenate([[0], np.cumsum(targets)])
        num_targets = targets_below[-1]
        misses = targets_below[rejected]
        num_others = len(targets) - num_targets
        far, frr = (num_others - (rejected - misses)) / num_others, misses / num_targets
        return cls(scores, targets, far, frr, lambda: np.broadcast_to(np.float64(1), scores.shape))


def turning_points(scores: npt.NDArray[np.floating], targets: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """How many trials by rising score lie below each operating point at which FAR and FRR turn.

    From one of them to the next either FAR or FRR changes and the other does not, or there is no operating
    point between them: no crossing and no lowest cost needs any other one.

    Args:
        scores: ``[num_trials]``, rising.
        targets: ``[num_trials]``, true for target trials.
    """
    # Trials of equal score switch together: a threshold rejects nothing, or all up to the last of equals.
    below = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1], [True]]))
    targets_below = np.concatenate([[0], np.cumsum(targets)])[below]
    rises_by, misses_rise_by = np.diff(below), np.diff(targets_below)
    share = misses_rise_by / rises_by  # of target trials among those of a score
    goes_on = (share[1:] == share[:-1]) & ((share[1:] == 0) | (share[1:] == 1))
    turns: npt.NDArray[np.intp] = below[np.concatenate([[True], ~goes_on, [True]])]
    return turns


def eer(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Equal error rate in percent: where FAR and FRR cross, linearly interpolated.

    With rising threshold FAR falls and FRR rises. Between the last operating point with FAR above FRR and
    the one after it both are taken as linear; the EER is their common value.

        >>> eer([0.9, 0.8, 0.4, 0.7, 0.3, 0.1], [1, 1, 1, 0, 0, 0])
        33.33333333333333

    Args:
        scores: ``[num_trials]``, higher for the same speaker.
        labels: ``[num_trials]``, 1 or true for target trials (the same speaker), 0 or false for the others.

    Raises:
        UserError: lengths differ, a score is NaN, a label is neither 0 nor 1, or a kind of trial is missing.
    """
    return crossing(*error_rates(scores, labels))


def min_dcf(scores: npt.ArrayLike, labels: npt.ArrayLike, p_target: float = 0.01) -> float:
    """Normalised minimum detection cost (NIST speaker recognition evaluations), where both errors cost 1.

    The smallest ``p_target * FRR + (1 - p_target) * FAR`` over all operating points, divided by the cost of
    the better of accepting all and rejecting all: from 0 to 1.

        >>> round(min_dcf([0.9, 0.8, 0.4, 0.7, 0.3, 0.1], [1, 1, 1, 0, 0, 0], p_target=0.5), 3)
        0.333

    Raises:
        UserError: as :func:`eer`.
    """
    return lowest_cost(*error_rates(scores, labels), p_target)


def crossing(far: Rates, frr: Rates) -> float:
    """Where FAR and FRR of rising thresholds, from (1, 0) to (0, 1), cross in percent; see :func:`eer`."""
    # FRR - FAR never falls; where it does not rise either, both rates stay what they are.
    return float(100 * np.interp(0, frr - far, far))


def lowest_cost(far: Rates, frr: Rates, p_target: float) -> float:
    """The smallest cost of all operating points with these rates; see :func:`min_dcf`."""
    return float((p_target * frr + (1 - p_target) * far).min() / min(p_target, 1 - p_target))


def threshold_at(trials: ScoredTrials, false_accepts: float | None = None) -> float:
    """The score from which on trials are accepted at an operating point, a little above all to accept none.

    Args:
        trials: Whose truth is known.
        false_accepts: Most percent of non-target trials that may be accepted; none takes the first threshold
            with a FRR not below the FAR, which is that of the EER.
    """
    # 0.7 / 100 is a little below 7 of 1000.
    most = None if false_accepts is None else false_accepts / 100 * (1 + 1e-9)
    reached = trials.frr >= trials.far if most is None else trials.far <= most
    distinct = np.unique(trials.scores.astype(np.float64))
    return float(np.append(distinct, np.nextafter(distinct[-1], np.inf))[np.argmax(reached)])


def error_rates(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Rates, Rates]:
    """FAR and FRR of all operating points, thresholds rising from (1, 0) to (0, 1).

    Raises:
        UserError: as :func:`eer`.
    """
    trials = ScoredTrials.of(scores, labels)
    return trials.far, trials.frr


def _checked(
    scores: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_]]:
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise UserError(
            f"metrics: {scores.size} scores for {labels.size} labels; give one label for each score"
        )
    if np.isnan(scores).any():
        raise UserError(
            f"metrics: the score of trial {np.isnan(scores).argmax()} is NaN; check its recordings"
        )
    targets = labels.astype(np.bool_)
    if (targets != labels).any():
        raise UserError(
            "metrics: labels other than 0 and 1; write 1 for the same speaker, 0 for different ones"
        )
    if not targets.any():
        raise UserError("metrics: no target trial (label 1); error rates need both kinds")
    if targets.all():
        raise UserError("metrics: no non-target trial (label 0); error rates need both kinds")
    return scores, targets
