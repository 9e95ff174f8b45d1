"""How well masks are predicted: ``python benchmarks/front_accuracy.py [--masks N] [data.num_speakers=100]``.

Random masks of INT8, 4 and 2 bits are measured with real engines and compared with what is predicted of them
from all units in INT8, each alone in 2 bits, and all in 4 and in 2 bits: EER, size and latency. Then
the same from more and more of the random masks too, of those that remain. Further arguments are settings of
``speakerquant``: without any, the shipped checkpoint with OpenVINO on the synthetic development list;
``units=layer`` has 38 units.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from opened_run import open_run
from rich.table import Table
from ways import PRECISIONS

from speakerquant.console import table_console
from speakerquant.engine.cpu import describe_cpu
from speakerquant.forecasting.additive_number import AdditiveNumber, Ranks
from speakerquant.forecasting.forecast import Forecast, MeasuredMask
from speakerquant.measuring.evaluator import MaskEvaluator
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask
from speakerquant.statistics.error_rates import eer

SETTINGS = ("engine=openvino", "data.evaluate_on=development", "engine.latency_requests=20")
KNOWN = (0, 4, 8, 16)  # random masks that predict the others

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Timed:
    """A measured mask with its latency in milliseconds."""

    mask: MeasuredMask
    latency: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masks", type=int, default=40, help="random masks")
    parser.add_argument("overrides", nargs="*", help="settings of speakerquant")
    arguments = parser.parse_args()
    evaluator = open_run([*SETTINGS, *arguments.overrides]).evaluator
    num_units = len(evaluator.units)
    generator = random.Random(1)
    base = (0,) * num_units
    alone = [(*base[:unit], 2, *base[unit + 1 :]) for unit in range(num_units)]
    first = [base, *alone, (1,) * num_units, (2,) * num_units]
    others = [tuple(generator.randrange(3) for _ in base) for _ in range(arguments.masks)]
    measured = _measure(evaluator, [*first, *others])
    trials = evaluator.data.trials
    table_console().print(
        f"{describe_cpu()}; {num_units} units, {len(first)} masks first; {len(trials)} trials, "
        f"{int(trials.labels.sum())} of them target trials"
    )
    table_console().print(_table(evaluator, measured, first, others))
    table_console().print(_latencies(measured, first, others))


def _measure(evaluator: MaskEvaluator, ranks: Sequence[Ranks]) -> dict[Ranks, Timed]:
    masks = {
        each: Mask(
            evaluator.units,
            {unit: PRECISIONS[rank] for unit, rank in zip(evaluator.units, each, strict=True)},
        )
        for each in ranks
    }
    found = {}
    for each, mask in track(masks.items(), "masks", total=len(masks)):
        with tempfile.TemporaryDirectory() as folder:
            [measured] = evaluator.measure([mask], [Path(folder)])
        assert measured.latency is not None
        error = eer(measured.scores, evaluator.data.trials.labels)
        known = MeasuredMask(measured.size_bytes, error, measured.embedded.embeddings)
        found[each] = Timed(known, measured.latency.ms_p50)
    return found


def _table(
    evaluator: MaskEvaluator,
    measured: Mapping[Ranks, Timed],
    first: Sequence[Ranks],
    others: Sequence[Ranks],
) -> Table:
    table = Table(title="masks that were not measured, against real engines", title_justify="left")
    for heading in (
        *("random masks known", "masks", "correlation of EER", "mean error", "largest", "stated error, mean"),
        *("within it", "largest error of size", "seconds"),
    ):
        table.add_column(heading, justify="right")
    for count in KNOWN:
        known = {each: measured[each].mask for each in (*first, *others[:count])}
        unknown = [each for each in others[count:] if each not in known]
        start = time.perf_counter()
        predicted = Forecast(known, evaluator.data.trials).predict(np.array(unknown))
        seconds = time.perf_counter() - start
        eers = np.array([measured[each].mask.eer for each in unknown])
        sizes = np.array([measured[each].mask.size_bytes for each in unknown])
        errors = np.abs(predicted.eers - eers)
        table.add_row(
            str(count),
            str(len(unknown)),
            f"{np.corrcoef(predicted.eers, eers)[0, 1]:.3f}",
            f"{errors.mean():.4f} %",
            f"{errors.max():.4f} %",
            f"{predicted.errors.mean():.4f} %",
            f"{100 * (errors <= predicted.errors).mean():.0f} %",
            f"{100 * np.abs(predicted.sizes / sizes - 1).max():.2f} %",
            f"{seconds:.2f}",
        )
    return table


def _latencies(measured: Mapping[Ranks, Timed], first: Sequence[Ranks], others: Sequence[Ranks]) -> str:
    """How well latencies add up."""
    base, *lowered = first
    latencies = {each: measured[each].latency for each in lowered}
    predicted = AdditiveNumber(measured[base].latency, latencies).of(np.array(others))
    found = np.array([measured[each].latency for each in others])
    off = 100 * np.abs(predicted / found - 1)
    return f"latency as a sum: off by {np.median(off):.0f} % (median), {off.max():.0f} % at most"


if __name__ == "__main__":
    main()
