"""Runs over the paper's units."""

from collections.abc import Callable, Mapping, Sequence

import pytest

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.measuring.assembly import published_of
from speakerquant.measuring.result import MaskRun
from speakerquant.report.multirun_report import precision_colors, runs_picture
from speakerquant.report.picture import Picture
from speakerquant.report.run_names import ComparableRuns, comparable_runs, name_runs

UNITS = (
    "input_conv",
    "se_res2block1",
    "se_res2block2",
    "se_res2block3",
    "aggregation_conv",
    "attentive_pooling",
    "embedding_linear",
)

MakeMask = Callable[..., dict[str, str]]
MakeRun = Callable[..., MaskRun]


def together(runs: Sequence[MaskRun]) -> ComparableRuns:
    """Runs that may all be compared."""
    [group] = comparable_runs(name_runs(runs))
    return group


def drawn(runs: Sequence[MaskRun]) -> Picture:
    """The picture of runs that may all be compared."""
    return runs_picture(together(runs), precision_colors(runs))


@pytest.fixture(scope="session")
def make_mask() -> MakeMask:
    """A mask with the given units in INT8 and, by keyword, units in other precisions."""

    def mask(*quantized: str, **others: str) -> dict[str, str]:
        return {unit: others.get(unit, "int8" if unit in quantized else "fp32") for unit in UNITS}

    return mask


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    """A finished run of a mask, with what is published of it."""

    def run(
        mask: Mapping[str, str],
        delta_eer: float,
        size_ratio: float,
        latency: float | None = None,
        architecture: Architecture = ECAPA_TDNN,
    ) -> MaskRun:
        metrics = {
            "eer": 1.0 + delta_eer,
            "delta_eer": delta_eer,
            "engine_size_bytes": 60e6 * size_ratio,
            "size_ratio": size_ratio,
        }
        timed = {} if latency is None else {"latency_ms_p50": latency}
        return MaskRun(dict(mask), metrics | timed, None, published=published_of(architecture, mask))

    return run
