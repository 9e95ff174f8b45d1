"""How a trial list is scored and judged: the same for every mask that is compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speakerquant.corpus.trials import Trials
from speakerquant.errors import UserError
from speakerquant.statistics.error_metrics import error_metrics
from speakerquant.statistics.metric import ErrorMetric
from speakerquant.statistics.score_norm import ScoreNorm
from speakerquant.statistics.scores import (
    Embeddings,
    check_cohort,
    cohort_statistics,
    cosine_scores,
    normalised_scores,
)


@dataclass(frozen=True)
class Protocol:
    """Cosine of whole recordings, normalised or not.

    Attributes:
        norm: Normalisation of the scores.
        top_n: Cohort scores that AS-norm looks at.
        cohort: Paths of the cohort's recordings; none without normalisation.
        p_targets: Effective priors that minDCF is measured at; the first is that of ``min_dcf``.
        false_accepts: Rates in percent at which thresholds of the baseline are taken, beside that of its EER.

    Raises:
        UserError: there is no prior, or one is not between 0 and 1, or a rate not between 0 and 100; or the
            cohort is missing or too small.
    """

    norm: ScoreNorm = ScoreNorm.none
    top_n: int = 300
    cohort: Sequence[Path] | None = None
    p_targets: Sequence[float] = (0.01,)
    false_accepts: Sequence[float] = (1.0, 0.1)

    def __post_init__(self) -> None:
        if not all(0 < percent < 100 for percent in self.false_accepts):
            raise UserError(
                f"scoring.false_accepts={list(self.false_accepts)}: give rates between 0 and 100 percent"
            )
        if not self.p_targets or not all(0 < p_target < 1 for p_target in self.p_targets):
            raise UserError(f"scoring.p_targets={list(self.p_targets)}: give priors between 0 and 1")
        if self.norm is not ScoreNorm.none and self.cohort is None:
            raise UserError(f"scoring.norm={self.norm}: set scoring.cohort_root, a folder of other speakers")
        if self.cohort is not None:
            check_cohort(len(self.cohort), self._highest)

    @property
    def identity(self) -> list[Any]:
        """What must be equal, beside the cohort's features, for two EERs to be comparable."""
        return [self.norm.value, self._highest]

    @property
    def _highest(self) -> int | None:
        """How many of the cohort's scores count; none counts all."""
        return self.top_n if self.norm is ScoreNorm.as_norm else None

    @property
    def metrics(self) -> tuple[ErrorMetric, ...]:
        """What the scores are judged by."""
        return error_metrics(self.p_targets)

    def scores(
        self, embeddings: Embeddings, trials: Trials, cohort: Embeddings | None
    ) -> npt.NDArray[np.float64]:
        """Scores of the trials, ``[num_trials]``.

        Args:
            embeddings: Of the trials' recordings, ``[num_recordings, dim]``.
            trials: Pairs to score.
            cohort: Embeddings of the cohort, ``[num_cohort, dim]``, if there is one.

        Raises:
            UserError: an embedding is unusable.
        """
        return self._scores(embeddings, trials.left, trials.right, cohort, trials.recordings)

    def scores_of_kept_voiceprints(
        self, enrolled: Embeddings, tested: Embeddings, trials: Trials, cohort: Embeddings | None
    ) -> npt.NDArray[np.float64]:
        """Scores ``[num_trials]`` where the first recording of a trial was enrolled by another system.

        Args:
            enrolled: Embeddings of the trials' recordings by the system that enrolled.
            tested: The same by the system that tests.
            trials: Pairs to score.
            cohort: Embeddings of the cohort by the system that enrolled, if there is one.

        Raises:
            UserError: an embedding is unusable.
        """
        both = np.concatenate([enrolled, tested])
        return self._scores(both, trials.left, trials.right + len(enrolled), cohort, 2 * trials.recordings)

    def _scores(
        self,
        embeddings: Embeddings,
        left: npt.NDArray[np.integer],
        right: npt.NDArray[np.integer],
        cohort: Embeddings | None,
        names: Sequence[str],
    ) -> npt.NDArray[np.float64]:
        scores = cosine_scores(embeddings, left, right, names)
        if cohort is None:
            return scores
        statistics = cohort_statistics(embeddings, cohort, self._highest)
        return normalised_scores(scores, left, right, statistics)
