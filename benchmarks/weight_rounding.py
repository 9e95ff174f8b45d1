"""GPTQ against rounding to the nearest: ``python benchmarks/weight_rounding.py [data=folder ...]``.

For every unit with weights of 8, 4 and 2 bits, the EER of the engine and the smallest cosine between its
embeddings and those of FP32. Above the table: how long gathering the Hessians and rounding the whole network
to 4 bits take without a cache, and the most memory that the process held until then. Arguments are settings
of ``speakerquant``: without any, the shipped checkpoint on the synthetic test list.
"""

import argparse
import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from opened_run import open_run
from rich.table import Table

from speakerquant.architectures.layers import LayerGeometry, quantizable_layers
from speakerquant.console import table_console
from speakerquant.engine.cpu import describe_cpu
from speakerquant.measuring.check import fidelity
from speakerquant.measuring.evaluator import MaskEvaluator
from speakerquant.measuring.pipeline import Measurement
from speakerquant.progress import track
from speakerquant.quantization.hessians import gather_hessians
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FP32, INT2, INT4, INT8, Precision, precision_of
from speakerquant.quantization.rounding import Rounding, RoundingMethod


@dataclass(frozen=True)
class Variant:
    """A way to store the weights of all units."""

    precision: Precision
    uses_gptq: bool = False

    @property
    def cells(self) -> tuple[str, str, str]:
        """Precision, groups and rounding, as the table names them."""
        weights = self.precision.weights
        if weights is None or not self.precision.has_fitted_scales:
            return str(self.precision), "", ""
        groups = str(weights.group_size or "output channel")
        return str(self.precision), groups, "GPTQ" if self.uses_gptq else "nearest"


VARIANTS = (
    Variant(FP32),
    Variant(INT8),
    *(
        Variant(precision_of(f"{precision}_{groups}"), uses_gptq)
        for precision in (INT4, INT2)
        for groups in ("channel", "g128", "g64", "g32")
        for uses_gptq in (False, True)
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="settings of speakerquant")
    evaluator = open_run(parser.parse_args().overrides).evaluator
    cost = _cost_of_gptq(evaluator)
    trials, layers = evaluator.data.trials, quantizable_layers(evaluator.model.network)
    table_console().print(
        f"{evaluator.builder.name} on {describe_cpu()}; "
        f"{sum(layer.weight.numel() for layer in layers.values())} weights; "
        f"{len(trials)} trials, {int(trials.labels.sum())} of them target trials\n{cost}"
    )
    measured = {
        variant: _measure(evaluator, variant) for variant in track(VARIANTS, "weights", total=len(VARIANTS))
    }
    table_console().print(_table(measured))


def _cost_of_gptq(evaluator: MaskEvaluator) -> str:
    """In words, what gathering the Hessians and rounding the whole network take."""
    network = evaluator.model.network
    recordings = [torch.from_numpy(np.array(x)) for x in evaluator.features.calibration.features]
    start = time.perf_counter()
    hessians = gather_hessians(network, recordings)
    gathered = time.perf_counter()
    rounding = Rounding(gather=lambda: hessians)
    for name, layer in quantizable_layers(network).items():
        assert INT4.weights is not None
        rounding.integers(name, layer.weight.detach().numpy(), LayerGeometry.of(layer), INT4.weights)
    seconds = gathered - start, time.perf_counter() - gathered
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    return (
        f"Hessians of {len(recordings)} recordings {seconds[0]:.1f} s, GPTQ to 4 bits {seconds[1]:.1f} s, "
        f"peak memory {peak:.2f} GB"
    )


def _measure(evaluator: MaskEvaluator, variant: Variant) -> Measurement:
    rounding = RoundingMethod.gptq if variant.uses_gptq else RoundingMethod.nearest
    settings = replace(evaluator.settings, rounding=rounding)
    mask = Mask(evaluator.units, {"*": variant.precision})
    with tempfile.TemporaryDirectory() as folder:
        [measured] = replace(evaluator, settings=settings).measure([mask], [Path(folder)])
    return measured


def _table(measured: dict[Variant, Measurement]) -> Table:
    table = Table("weights", "groups", "rounding")
    for heading in ("EER %", "size ratio", "smallest cosine with FP32"):
        table.add_column(heading, justify="right")
    baseline = measured[VARIANTS[0]]
    for variant, each in measured.items():
        cosine = fidelity(each.embedded.embeddings, baseline.embedded.embeddings)
        ratio = each.size_bytes / baseline.size_bytes
        table.add_row(*variant.cells, f"{each.scored.eer:.3f}", f"{ratio:.3f}", f"{cosine:.4f}")
    return table


if __name__ == "__main__":
    main()
