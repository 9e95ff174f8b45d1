"""How a trial list is scored and judged: the same for every mask that is compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from speakerquant.audio.features import FeatureArray
from speakerquant.corpus.trials import Trials
from speakerquant.errors import UserError
from speakerquant.evaluation.embeddings import Embeddings, TimedEmbeddings
from speakerquant.evaluation.metrics import min_dcf
from speakerquant.evaluation.scoring import cohort_statistics, cosine_scores, normalised_scores

MIN_DCF = "min_dcf"
"""Name of the metric at the first prior."""


class ScoreNorm(StrEnum):
    """What is done to cosine scores."""

    none = "none"
    s_norm = "s_norm"
    as_norm = "as_norm"


@dataclass(frozen=True)
class Protocol:
    """Cosine of whole recordings, normalised or not.

    Attributes:
        norm: Of the scores.
        top_n: Cohort scores that AS-norm looks at.
        cohort: Features of the cohort's recordings; none without normalisation.
        cohort_digest: Changes with them.
        p_targets: Effective priors that minDCF is measured at; the first is that of ``min_dcf``.

    Raises:
        UserError: there is no prior, or one is not between 0 and 1.
    """

    norm: ScoreNorm = ScoreNorm.none
    top_n: int = 300
    cohort: Sequence[FeatureArray] = ()
    cohort_digest: str = ""
    p_targets: Sequence[float] = (0.01,)

    def __post_init__(self) -> None:
        if not self.p_targets or not all(0 < p_target < 1 for p_target in self.p_targets):
            raise UserError(f"scoring.p_targets={list(self.p_targets)}: give priors between 0 and 1")

    @property
    def identity(self) -> list[Any]:
        """What must be equal for two EERs to be comparable."""
        adaptive = self.top_n if self.norm is ScoreNorm.as_norm else None
        return [self.norm.value, adaptive, self.cohort_digest]

    def scores(
        self,
        embeddings: Embeddings,
        trials: Trials,
        embed: Callable[[Sequence[FeatureArray], str], TimedEmbeddings],
    ) -> npt.NDArray[np.float64]:
        """Scores ``[num_trials]`` of embedded recordings ``[num_recordings, dim]``.

        Args:
            embeddings: Of the trials' recordings.
            trials: Pairs to score.
            embed: Embeds the cohort; the second argument says what of.

        Raises:
            UserError: an embedding is unusable, or the cohort too small.
        """
        scores = cosine_scores(embeddings, trials.left, trials.right)
        if self.norm is ScoreNorm.none:
            return scores
        top_n = self.top_n if self.norm is ScoreNorm.as_norm else None
        statistics = cohort_statistics(embeddings, embed(self.cohort, "cohort").embeddings, top_n)
        return normalised_scores(scores, trials.left, trials.right, statistics)

    def min_dcfs(self, scores: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
        """minDCF by the name of its metric: ``min_dcf`` at the first prior, ``min_dcf_<prior>`` at others."""
        first, *others = self.p_targets
        names = {MIN_DCF: first} | {f"{MIN_DCF}_{p_target:g}": p_target for p_target in others}
        return {name: min_dcf(scores, labels, p_target) for name, p_target in names.items()}
