"""Whether intervals hold what they say, and what they cost: ``python benchmarks/uncertainty.py``.

Cost: seconds of 1,000 draws for EER and minDCF of two systems, and the most memory that the process held.
Coverage: lists of trials are made up whose true error rates are known, as scores are normal. Speakers differ
in how well they are recognised and how easily they are taken for others, recordings differ too, and two
systems score the same trials alike but for a loss of 0.1 % EER. The table gives the share of lists whose 95 %
interval holds the truth.
At a fixed threshold: the same of false accepts and false rejects, from few errors to many.
Paper: lists as large as the paper's, with the losses of its Table 1. The table gives the share of lists whose
interval shows that there is a difference.
"""

import argparse
import math
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.table import Table
from scipy.optimize import brentq
from scipy.stats import norm

from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED
from speakerquant.console import table_console
from speakerquant.engine.cpu import describe_cpu
from speakerquant.progress import track
from speakerquant.statistics.error_metrics import EER, error_metrics
from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.score_calibration import ScoreCalibration
from speakerquant.statistics.swap_metrics import (
    EER_POINT,
    FALSE_ACCEPTS,
    FALSE_REJECTS,
    FormerSystem,
    OperatingPoint,
    swap_numbers,
)
from speakerquant.statistics.uncertainty import SpeakerBootstrap, difference

Array = npt.NDArray[np.float64]

NUM_SPEAKERS = (10, 20, 40, 100, 200)
EXPECTED_ERRORS = (1, 3, 10, 30, 100)
SIZES = (37_720, 114_720, 600_000)

MARGIN, LOSS = 4.5, 0.05  # between the means of target and non-target scores; what the second system lacks
RECOGNISED, MISTAKEN, RECORDING, TRIAL = 0.8, 0.4, 0.3, 0.7  # standard deviations

PAPER_ROWS = {units: result for units, result in PUBLISHED.by_int8_units.items() if units}
PAPER_SPEAKERS, PAPER_RECORDINGS, PAPER_TRIALS = 40, 118, 18_860  # trials of each kind
PAPER_ALIKE = (0.9999, 0.999, 0.99)  # measured here with the shipped checkpoint: INT8 0.9999, 2 bits 0.99


@dataclass(frozen=True)
class World:
    """What lists are made up of.

    Attributes:
        num_speakers: Speakers of a list.
        recordings: Recordings of each.
        most_trials: Most trials of each kind.
        alike: Correlation of two systems' scores of trials of one kind.
    """

    num_speakers: int
    recordings: int = 8
    most_trials: int = 10_000
    alike: float = 0.9


@dataclass(frozen=True)
class MadeUp:
    """A list with the scores of several systems.

    Attributes:
        bootstrap: Draws of its speakers.
        scores: Of the systems, ``[num_systems, num_trials]``.
    """

    bootstrap: SpeakerBootstrap
    scores: Array


def make_up(world: World, margins: Sequence[float], generator: np.random.Generator, draws: int) -> MadeUp:
    """A list scored by systems with these margins; all but the first differ in nothing else."""
    speakers = np.repeat(np.arange(world.num_speakers), world.recordings)
    left, right = np.triu_indices(len(speakers), 1)
    is_target = speakers[left] == speakers[right]
    chosen = np.concatenate(
        [
            generator.permutation(np.flatnonzero(is_target == kind))[: world.most_trials]
            for kind in (True, False)
        ]
    )
    left, right, labels = left[chosen], right[chosen], is_target[chosen]

    def alike(deviation: float, count: int) -> Array:
        """Values of the first system and of the others, ``[2, count]``."""
        first, fresh = deviation * generator.standard_normal((2, count))
        return np.stack([first, world.alike * first + math.sqrt(1 - world.alike**2) * fresh])

    recognised, mistaken = alike(RECOGNISED, world.num_speakers), alike(MISTAKEN, world.num_speakers)
    recording, trial = alike(RECORDING, len(speakers)), alike(TRIAL, len(left))
    of_left, of_right = speakers[left], speakers[right]
    same = np.where(labels, recognised[:, of_left], mistaken[:, of_left] + mistaken[:, of_right])
    same = same + recording[:, left] + recording[:, right] + trial
    scores = np.stack([same[min(place, 1)] + margin * labels for place, margin in enumerate(margins)])
    return MadeUp(SpeakerBootstrap(of_left, of_right, labels, draws), scores)


def true_eer(margin: float) -> float:
    """Where the tails of the two normal distributions are equal, in percent."""
    both = 2 * RECORDING**2 + TRIAL**2
    return float(
        100 * norm.cdf(-margin / (math.sqrt(RECOGNISED**2 + both) + math.sqrt(2 * MISTAKEN**2 + both)))
    )


def coverage(num_lists: int, replicates: int) -> Table:
    first, second = true_eer(MARGIN), true_eer(MARGIN - LOSS)
    error = 100 * math.sqrt(0.95 * 0.05 / num_lists)
    table = Table(
        title=f"coverage of 95 % intervals, {num_lists} lists each, ± {error:.1f}\n"
        f"EER {first:.3f} %, ΔEER {second - first:+.3f} %",
        title_justify="left",
    )
    for heading in ("speakers", "EER", "ΔEER", "mean width of EER's", "mean width of ΔEER's"):
        table.add_column(heading, justify="right")
    for num_speakers in NUM_SPEAKERS:
        generator = np.random.default_rng(num_speakers)
        held, widths = np.zeros(2), np.zeros(2)
        for _ in track(range(num_lists), f"{num_speakers} speakers", total=num_lists):
            made = make_up(World(num_speakers), (MARGIN, MARGIN - LOSS), generator, replicates)
            labels = made.bootstrap.labels
            found = [eer(each, labels) for each in made.scores]
            (theirs,), (ours,) = (made.bootstrap.replicates(each, [EER]) for each in made.scores)
            intervals = (
                made.bootstrap.interval(found[0], theirs),
                difference(found[1] - found[0], ours, theirs),
            )
            truths = (first, second - first)
            held += [each.low <= truth <= each.high for each, truth in zip(intervals, truths, strict=True)]
            widths += [each.high - each.low for each in intervals]
        shares, means = 100 * held / num_lists, widths / num_lists
        table.add_row(
            str(num_speakers), *(f"{share:.1f} %" for share in shares), *(f"{mean:.3f} %" for mean in means)
        )
    return table


def fixed_thresholds(num_lists: int, replicates: int) -> Table:
    """Coverage at thresholds at which so many false accepts are expected."""
    table = Table(
        title=f"coverage of 95 % intervals at a fixed threshold, 40 speakers, {num_lists} lists each",
        title_justify="left",
    )
    columns = (FALSE_ACCEPTS, FALSE_ACCEPTS.delta, FALSE_REJECTS, FALSE_REJECTS.delta)
    for heading in ("false accepts expected", "rejects expected", *(metric.heading for metric in columns)):
        table.add_column(heading, justify="right")
    world = World(num_speakers=40)
    both = 2 * RECORDING**2 + TRIAL**2
    of_targets, of_others = math.sqrt(RECOGNISED**2 + both), math.sqrt(2 * MISTAKEN**2 + both)
    for expected in EXPECTED_ERRORS:
        generator = np.random.default_rng(expected)
        far = expected / world.most_trials
        threshold = float(of_others * norm.isf(far))
        first, second = (
            100 * float(norm.cdf((threshold - margin) / of_targets)) for margin in (MARGIN, MARGIN - LOSS)
        )
        truths = (100 * far, 0.0, second, second - first)
        held, num_targets = np.zeros(len(columns)), 0
        for _ in track(range(num_lists), f"{expected} false accepts", total=num_lists):
            made = make_up(world, (MARGIN, MARGIN - LOSS), generator, replicates)
            num_targets = int(made.bootstrap.labels.sum())
            point = OperatingPoint(EER_POINT, threshold)
            calibration = ScoreCalibration(1.0, 0.0)
            former = FormerSystem(made.scores[0], [point], calibration, 0.01, made.bootstrap)
            numbers = swap_numbers(made.scores[1], former, voiceprints_kept=False)
            named = (FALSE_ACCEPTS.at(EER_POINT), FALSE_REJECTS.at(EER_POINT))
            intervals = [interval for metric in named for interval in (metric, metric.delta)]
            held += [
                numbers[each.low.name] <= truth <= numbers[each.high.name]
                for each, truth in zip(intervals, truths, strict=True)
            ]
        shares = (f"{100 * share / num_lists:.1f} %" for share in held)
        table.add_row(str(expected), f"{num_targets * first / 100:.0f}", *shares)
    return table


def paper(num_lists: int, replicates: int) -> Table:
    margins = {
        paper_result.eer: brentq(lambda margin, wanted: true_eer(margin) - wanted, 0, 10, (paper_result.eer,))
        for paper_result in PAPER_ROWS.values()
    }
    found = {alike: np.zeros(len(PAPER_ROWS)) for alike in PAPER_ALIKE}
    generator = np.random.default_rng(0)
    for _ in track(range(num_lists), "lists of the paper's size", total=num_lists):
        for alike in PAPER_ALIKE:
            world = World(PAPER_SPEAKERS, PAPER_RECORDINGS, PAPER_TRIALS, alike)
            made = make_up(world, [margins[PUBLISHED.baseline.eer], *margins.values()], generator, replicates)
            (theirs,), *others = (made.bootstrap.replicates(scores, [EER]) for scores in made.scores)
            ties = {
                eer: difference(0, ours, theirs).is_tie for eer, (ours,) in zip(margins, others, strict=True)
            }
            found[alike] += [not ties[row.eer] for row in PAPER_ROWS.values()]
    table = Table(
        "units",
        "ΔEER",
        *(f"scores alike {alike:g}" for alike in PAPER_ALIKE),
        title=f"the paper's masks told from its baseline, {num_lists} lists of 40 speakers and 37,720 trials",
        title_justify="left",
    )
    for place, (units, row) in enumerate(PAPER_ROWS.items()):
        shares = (f"{100 * found[alike][place] / num_lists:.0f} %" for alike in PAPER_ALIKE)
        table.add_row(", ".join(sorted(units)), f"{PUBLISHED.delta_eer(row):+.3f} %", *shares)
    return table


def cost() -> Table:
    table = Table("trials", "seconds", "GB", title="1,000 draws, two systems", title_justify="left")
    generator = np.random.default_rng(0)
    for num_trials in SIZES:
        speakers = generator.integers(0, 40, (2, num_trials))
        is_target = generator.random(num_trials) < 0.1
        left, right = speakers[0], np.where(is_target, speakers[0], speakers[1])
        labels = left == right
        bootstrap = SpeakerBootstrap(left, right, labels)
        start = time.perf_counter()
        for _ in range(2):
            bootstrap.replicates(generator.standard_normal(num_trials) + 4 * labels, error_metrics([0.01]))
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
        table.add_row(f"{num_trials:,}", f"{seconds:.1f}", f"{peak:.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=500, help="made up for each number of speakers")
    parser.add_argument("--draws", type=int, default=500, help="of the speakers of each list")
    arguments = parser.parse_args()
    table_console().print(describe_cpu())
    table_console().print(cost())
    table_console().print(coverage(arguments.lists, arguments.draws))
    table_console().print(fixed_thresholds(arguments.lists, arguments.draws))
    table_console().print(paper(arguments.lists // 10, arguments.draws))


if __name__ == "__main__":
    main()
