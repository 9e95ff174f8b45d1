"""Compares a mask with the baseline: how sure its error rates are, and by how much they differ."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakerquant import schema_versions
from speakerquant.cache import Cache
from speakerquant.files import digest, sha256
from speakerquant.statistics.error_rates import eer, min_dcf
from speakerquant.statistics.uncertainty import Array, Difference, Interval, SpeakerBootstrap, difference

_KIND, _SUFFIX = "replicates", ".npy"


@dataclass(frozen=True)
class Comparison:
    """Intervals of a mask's error rates, and of their differences from the baseline's.

    Attributes:
        eer: Of the EER in percent.
        min_dcf: Of the normalised minDCF.
        delta_eer: Of the difference between the EERs.
        delta_min_dcf: Of the difference between the minDCFs.
        draws: Name of the cache's entry with the mask's rates on every draw, for :func:`is_tie`.
    """

    eer: Interval
    min_dcf: Interval
    delta_eer: Difference
    delta_min_dcf: Difference
    draws: str


def compare(
    scores: Array, baseline_scores: Array, bootstrap: SpeakerBootstrap, p_target: float, cache: Cache
) -> Comparison:
    """Compare scores ``[num_trials]`` of a mask with those of the baseline.

    Args:
        scores: Of the mask.
        baseline_scores: Of the baseline.
        bootstrap: Draws of the speakers.
        p_target: Prior of the minDCF.
        cache: Keeps what the draws give: the baseline's is the same in every comparison.
    """
    ours, theirs = (_Rates.of(each, bootstrap, p_target, cache) for each in (scores, baseline_scores))
    return Comparison(
        bootstrap.interval(ours.eer, ours.eers),
        bootstrap.interval(ours.min_dcf, ours.min_dcfs),
        difference(ours.eer - theirs.eer, ours.eers, theirs.eers),
        difference(ours.min_dcf - theirs.min_dcf, ours.min_dcfs, theirs.min_dcfs),
        ours.draws,
    )


def is_tie(draws: str, others: str, cache: Cache) -> bool | None:
    """Whether nothing shows which of two masks has the lower EER; none if the cache has their draws no more.

    Args:
        draws: Of one mask, on the same list (:attr:`Comparison.draws`).
        others: Of the other one.
        cache: What both were compared with.
    """
    paths = [cache.find(_KIND, name, _SUFFIX) for name in (draws, others)]
    if None in paths:
        return None
    eers, theirs = (np.load(path, allow_pickle=False)[0] for path in paths if path)
    return difference(0.0, eers, theirs).is_tie


@dataclass(frozen=True)
class _Rates:
    """Error rates on the whole list, and on every draw ``[num_replicates]``; and the name of these."""

    eer: float
    min_dcf: float
    eers: Array
    min_dcfs: Array
    draws: str

    @classmethod
    def of(cls, scores: Array, bootstrap: SpeakerBootstrap, p_target: float, cache: Cache) -> "_Rates":
        arrays = (scores, bootstrap.left, bootstrap.right, bootstrap.labels)
        contents = [sha256(each.tobytes()) for each in arrays]
        key = digest(schema_versions.REPLICATES, contents, bootstrap.num_replicates, bootstrap.seed, p_target)

        def make(path: Path) -> None:
            np.save(path, bootstrap.replicates(scores, [p_target]))

        eers, min_dcfs = np.load(cache.get(_KIND, key, make, _SUFFIX), allow_pickle=False)
        labels = bootstrap.labels
        return cls(eer(scores, labels), min_dcf(scores, labels, p_target), eers, min_dcfs, key)
