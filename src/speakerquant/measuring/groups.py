"""For whom a mask loses: its error rates beside the baseline's in groups of trials."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from speakerquant.cache import Cache
from speakerquant.corpus.conditions import TrialGroup
from speakerquant.statistics.comparison import compare
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.group_metrics import HOLM, holm
from speakerquant.statistics.swap_metrics import EER_POINT, FormerSystem, swap_numbers
from speakerquant.statistics.uncertainty import SpeakerBootstrap

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float64]

_FEWEST_TRIALS, _FEWEST_SPEAKERS = 50, 5
_DRAWS_FOR_EACH, _MOST_DRAWS = 100, 5000


@dataclass(frozen=True)
class JudgedGroup:
    """A group of enough trials, with draws of its speakers."""

    group: TrialGroup
    bootstrap: SpeakerBootstrap


def judged_groups(groups: Sequence[TrialGroup], bootstrap: SpeakerBootstrap) -> list[JudgedGroup]:
    """The groups with enough trials and speakers for an interval; a line says that others are left out.

    Args:
        groups: Any.
        bootstrap: Draws of the speakers of the whole list.
    """
    enough, left_out = [], []
    for group in groups:
        labels = bootstrap.labels[group.trials]
        both = np.stack([bootstrap.left[group.trials], bootstrap.right[group.trials]])
        speakers, places = np.unique(both, return_inverse=True)
        fewest = min(np.count_nonzero(labels), np.count_nonzero(~labels))
        if fewest >= _FEWEST_TRIALS and len(speakers) >= _FEWEST_SPEAKERS:
            enough.append((group, places.reshape(both.shape), labels))
        elif group.is_given:
            left_out.append((group.name, labels.sum(), (~labels).sum(), len(speakers)))
    if left_out:
        log.warning(
            "data.conditions: %d of %d groups left out, such as %s: %d target and %d non-target trials of %d "
            "speakers; a group needs %d, %d and %d",
            *(len(left_out), sum(group.is_given for group in groups), *left_out[0]),
            *(_FEWEST_TRIALS, _FEWEST_TRIALS, _FEWEST_SPEAKERS),
        )
    # The smallest p that draws can show is one in half of them, which is multiplied by the number of groups.
    draws = min(max(SpeakerBootstrap.num_replicates, _DRAWS_FOR_EACH * len(enough)), _MOST_DRAWS)
    return [
        JudgedGroup(group, SpeakerBootstrap(left, right, labels, draws))
        for group, (left, right), labels in enough
    ]


def compare_groups(
    scores: Array,
    former: FormerSystem,
    groups: Sequence[JudgedGroup],
    cache: Cache,
    *,
    is_kept: bool = True,
) -> dict[str, dict[str, float]]:
    """Of every group by name, error rates beside the baseline's by name, at one threshold for all groups.

    Args:
        scores: Of the mask, ``[num_trials]``.
        former: The baseline on the whole list.
        groups: The groups.
        cache: Keeps what the draws give.
        is_kept: Whether it keeps those of the mask, too.
    """
    points = [point for point in former.points if point.name == EER_POINT]
    found: dict[str, dict[str, float]] = {}
    for each in groups:
        now, before = scores[each.group.trials], former.scores[each.group.trials]
        compared = compare(now, before, each.bootstrap, [EER], cache, is_kept=is_kept)
        in_group = replace(former, scores=before, points=points, bootstrap=each.bootstrap, folds=None)
        swap = swap_numbers(now, in_group, voiceprints_kept=False)
        found[each.group.name] = {"num_trials": len(now), **compared.numbers, **swap}
    corrected = holm([numbers[EER.delta.p.name] for numbers in found.values()])
    for numbers, p in zip(found.values(), corrected, strict=True):
        numbers[HOLM.name] = p
    return found
