"""Ways of rounding weights, side by side: ``python benchmarks/weight_rounding.py [data=folder ...]``.

For every unit with weights of 8, 4 and 2 bits, the EER of the engine, and how far its embeddings are from
those of FP32. Above the table: the processor time of gathering the Hessians and of rounding the whole network
to 2 bits without a cache, and the most memory that the process held until then. Arguments are settings of
``speakerquant``: without any, the shipped checkpoint on the synthetic test list.
"""

import argparse
import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from opened_run import open_run
from rich.table import Table
from torch.nn.functional import cosine_similarity

from speakerquant.architectures.layers import LayerGeometry, quantizable_layers
from speakerquant.cache import Cache
from speakerquant.console import table_console
from speakerquant.engine.cpu import describe_cpu
from speakerquant.measuring.evaluator import MaskEvaluator
from speakerquant.measuring.pipeline import Measurement
from speakerquant.measuring.shared import rounding_of
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FP32, INT2, INT8, Precision, precision_of
from speakerquant.quantization.rounding_method import RoundingMethod
from speakerquant.statistics.error_rates import eer


@dataclass(frozen=True)
class Variant:
    """A way to store the weights of all units."""

    precision: Precision
    method: RoundingMethod = RoundingMethod.nearest

    @property
    def cells(self) -> tuple[str, str, str]:
        """Precision, groups and rounding, as the table names them."""
        weights = self.precision.weights
        if weights is None or not self.precision.has_fitted_scales:
            return str(self.precision), "", ""
        return str(self.precision), str(weights.group_size or "output channel"), self.method.name


VARIANTS = (
    Variant(FP32),
    Variant(INT8),
    *(
        Variant(precision_of(name), method)
        for name in ("int4_channel", "int4_g128", "int4_g64", "int2_g256", "int2_g128", "int2_g64")
        for method in RoundingMethod
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="settings of speakerquant")
    evaluator = open_run(parser.parse_args().overrides).evaluator
    cost = _cost(evaluator)
    trials, layers = evaluator.data.trials, quantizable_layers(evaluator.model.network)
    table_console().print(
        f"{evaluator.builder.name} on {describe_cpu()}; "
        f"{sum(layer.weight.numel() for layer in layers.values())} weights; "
        f"{len(trials)} trials, {int(trials.labels.sum())} of them target trials\n{cost}"
    )
    measured = {
        variant: _measure(evaluator, variant) for variant in track(VARIANTS, "weights", total=len(VARIANTS))
    }
    table_console().print(_table(measured, trials.labels))


def _cost(evaluator: MaskEvaluator) -> str:
    """In words, what gathering the Hessians and rounding the whole network take."""
    network, speech = evaluator.model.network, evaluator.rounding_speech
    with tempfile.TemporaryDirectory() as folder:
        rounding = rounding_of(evaluator.model, lambda: speech, evaluator.settings, Cache(Path(folder)))
        assert rounding.gather is not None and INT2.weights is not None
        start = time.process_time()
        rounding.gather()
        gathered = time.process_time()
        for name, layer in quantizable_layers(network).items():
            rounding.integers(name, layer.weight.detach().numpy(), LayerGeometry.of(layer), INT2.weights)
        seconds = gathered - start, time.process_time() - gathered
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    return (
        f"Hessians of {len(speech.features)} recordings {seconds[0]:.0f} s of CPU, rounding to 2 bits by "
        f"{rounding.method.name} {seconds[1]:.0f} s, peak memory {peak:.2f} GB"
    )


def _measure(evaluator: MaskEvaluator, variant: Variant) -> Measurement:
    settings = replace(evaluator.settings, rounding=variant.method)
    mask = Mask(evaluator.units, {"*": variant.precision})
    with tempfile.TemporaryDirectory() as folder:
        [measured] = replace(evaluator, settings=settings).measure([mask], [Path(folder)])
    return measured


def _table(measured: dict[Variant, Measurement], labels: npt.NDArray[np.bool_]) -> Table:
    table = Table("weights", "groups", "rounding")
    for heading in ("EER %", "size ratio", "mean 1 - cosine with FP32", "smallest cosine"):
        table.add_column(heading, justify="right")
    baseline = measured[VARIANTS[0]]
    for variant, each in measured.items():
        cosines = cosine_similarity(
            torch.from_numpy(each.embedded.embeddings), torch.from_numpy(baseline.embedded.embeddings)
        )
        ratio, distance = each.size_bytes / baseline.size_bytes, float(1 - cosines.mean())
        table.add_row(
            *variant.cells,
            f"{eer(each.scores, labels):.3f}",
            f"{ratio:.3f}",
            f"{distance:.5f}",
            f"{cosines.min():.4f}",
        )
    return table


if __name__ == "__main__":
    main()
