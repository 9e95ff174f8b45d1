"""What becomes of the baseline's thresholds, voiceprints and calibration when a mask takes its place."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from speakerquant.cache import Cache
from speakerquant.errors import UserError
from speakerquant.measuring.baseline import Baseline
from speakerquant.measuring.pipeline import EvaluationSet
from speakerquant.statistics.comparison import compare
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.error_rates import ScoredTrials
from speakerquant.statistics.score_calibration import ScoreCalibration, SpeakerFolds, min_cllr
from speakerquant.statistics.scores import Embeddings
from speakerquant.statistics.swap_metrics import (
    BASELINE_MIN_CLLR,
    FEWEST_ERRORS,
    KEPT_EER,
    MIN_CLLR,
    FormerSystem,
    OperatingPoint,
    is_resolved,
    operating_points,
    swap_numbers,
)
from speakerquant.statistics.uncertainty import SpeakerBootstrap

_LEAST_SPREAD = 1e-6  # of cosines, in FP32

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decisions:
    """How the baseline decides: what a product that runs it has set.

    Attributes:
        trial_list: Name of the list that they are from.
        points: Its thresholds.
        calibration: Of its scores.
    """

    trial_list: str
    points: Sequence[OperatingPoint]
    calibration: ScoreCalibration

    @classmethod
    def of(
        cls,
        trial_list: str,
        scores: npt.NDArray[np.float64],
        labels: npt.NDArray[np.bool_],
        false_accepts: Sequence[float],
    ) -> "Decisions":
        """The decisions that fit a scored list.

        Args:
            trial_list: Name of the list.
            scores: Of the baseline, ``[num_trials]``.
            labels: True for target trials.
            false_accepts: Rates in percent that a threshold is sought for, beside that of the EER.

        Raises:
            UserError: the scores are all alike.
        """
        if np.ptp(scores) < _LEAST_SPREAD:
            raise UserError(
                f"FP32 scores all trials of the {trial_list} list alike: its embeddings do not depend on the "
                "recordings; check model.checkpoint and model.front_end"
            )
        num_others = int(np.count_nonzero(~labels))
        unresolved = [percent for percent in false_accepts if not is_resolved(percent, num_others)]
        if unresolved:
            log.warning(
                "scoring.false_accepts: no threshold is taken at %s %%, which the %d non-target trials of "
                "the %s list do not show by %d false accepts; give a longer list, or higher rates",
                *(", ".join(f"{each:g}" for each in unresolved), num_others, trial_list, FEWEST_ERRORS),
            )
        points = operating_points(ScoredTrials.of(scores, labels), false_accepts)
        return cls(trial_list, points, ScoreCalibration.fitted(scores, labels))

    def on(
        self, trial_list: str, scores: npt.NDArray[np.float64], bootstrap: SpeakerBootstrap, p_target: float
    ) -> FormerSystem:
        """The baseline on a list, as what masks replace there.

        Args:
            trial_list: Name of the list.
            scores: Of the baseline on it, ``[num_trials]``.
            bootstrap: Draws of its speakers.
            p_target: The prior that costs are of.

        Raises:
            UserError: the scores of a kind are all alike.
        """
        labels = bootstrap.labels
        for kind, of_kind in (("target", labels), ("non-target", ~labels)):
            if np.ptp(scores[of_kind]) < _LEAST_SPREAD:
                raise UserError(
                    f"FP32 scores all {kind} trials of the {trial_list} list alike, and what a mask moves "
                    "them by is told in their deviation; list trials of different recordings"
                )
        outside = [each for each in self.points if not scores.min() < each.threshold <= scores.max()]
        if outside:
            log.warning(
                "FP32's thresholds from the %s list (%s) lie outside all scores of the %s list, %.3f to "
                "%.3f: no rate there tells anything; give a development list of recordings like these",
                self.trial_list,
                ", ".join(f"{each.name} {each.threshold:.3f}" for each in outside),
                *(trial_list, scores.min(), scores.max()),
            )
        if scores[labels].min() > scores[~labels].max():
            num_targets = int(np.count_nonzero(labels))
            log.warning(
                "FP32 makes no error on the %s list, which says little of other lists: of %d target trials "
                "without an error up to %.2g %% may be missed there (three of so many), although the "
                "interval of its EER ends at 0; give a longer list",
                *(trial_list, num_targets, min(100, 300 / num_targets)),
            )
        folds = SpeakerFolds.of(bootstrap.left, bootstrap.right, labels)
        return FormerSystem(scores, self.points, self.calibration, p_target, bootstrap, folds)


def swapping(scores: npt.NDArray[np.float64], former: FormerSystem) -> dict[str, float]:
    """Every number of what changes for a product that runs the baseline and enrols anew, by name.

    Args:
        scores: Of the mask that takes its place, ``[num_trials]``.
        former: The baseline.
    """
    return {
        **swap_numbers(scores, former, voiceprints_kept=False),
        MIN_CLLR.name: min_cllr(scores, former.bootstrap.labels),
        BASELINE_MIN_CLLR.name: former.min_cllr,
    }


def keeping_voiceprints(
    embeddings: Embeddings,
    baseline: Baseline,
    former: FormerSystem,
    data: EvaluationSet,
    cache: Cache,
    *,
    is_kept: bool = True,
) -> dict[str, float]:
    """Every number of what changes where the baseline's voiceprints stay, by name.

    Args:
        embeddings: Of the list's recordings by the mask that takes its place, ``[num_recordings, dim]``.
        baseline: What it replaces.
        former: Its scores and decisions.
        data: What both were measured on.
        cache: Keeps what the draws give.
        is_kept: Whether it keeps those of the mask, too.

    Raises:
        UserError: an embedding is unusable.
    """
    protocol = data.protocol
    scores = protocol.scores_of_kept_voiceprints(
        baseline.embeddings, embeddings, data.trials, baseline.cohort
    )
    # By all of the metrics, as then the draws of the baseline are in the cache already.
    compared = compare(
        scores, former.scores, former.bootstrap, protocol.metrics, cache, is_kept=is_kept
    ).metrics[EER.name]
    numbers = replace(compared, metric=KEPT_EER).numbers
    whose_calibration_stays = replace(former, folds=None)
    return {**swap_numbers(scores, whose_calibration_stays, voiceprints_kept=True), **numbers}
