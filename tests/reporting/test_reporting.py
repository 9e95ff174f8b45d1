"""The table and the picture that people look at."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from speakerquant.evaluation.result import MaskRun
from speakerquant.paper import BASELINE, RESULTS, paper_result
from speakerquant.reporting.plot import plot_runs
from speakerquant.reporting.table import mask_name, print_table

UNITS = (
    "input_conv",
    "se_res2block1",
    "se_res2block2",
    "se_res2block3",
    "aggregation_conv",
    "embedding_linear",
)


def mask(*quantized: str) -> dict[str, str]:
    return {unit: "int8" if unit in quantized else "fp32" for unit in UNITS}


def finished(quantized: tuple[str, ...], eer: float, size: float) -> MaskRun:
    metrics = {"eer": eer, "delta_eer": eer - 1.0, "engine_size_bytes": size, "size_ratio": size / 60e6}
    return MaskRun(mask(*quantized), metrics, None)


RUNS = [
    finished((), 1.0, 60e6),
    finished(("input_conv",), 1.25, 57.5e6),
    MaskRun(mask("se_res2block1"), {}, "the engine broke [/dev/null]"),
]


@pytest.mark.parametrize(
    ("quantized", "name"),
    [
        ((), "none"),
        (UNITS, "all"),
        (("se_res2block2",), "se_res2block2"),
        (UNITS[:2], "input_conv, se_res2block1"),
        (UNITS[1:], "all but input_conv"),
    ],
)
def test_masks_are_named_by_their_int8_units(quantized: tuple[str, ...], name: str) -> None:
    assert mask_name(mask(*quantized)) == name


def test_table_puts_ours_beside_the_papers_and_shows_failures(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(RUNS, "title")
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if "input_conv" in line and "1.250" in line)
    for cell in ("+0.250", "57.500", "0.958", "1.660", "-0.005", "60.413"):
        assert cell in row
    assert any("se_res2block1" in line and "failed" in line for line in lines)
    assert any("the engine broke [/dev/null]" in line for line in lines)


def test_paper_results_are_found_by_mask() -> None:
    assert paper_result(mask()) == BASELINE
    assert paper_result(mask("input_conv", "se_res2block1")) is None
    assert BASELINE.delta_eer == 0.0
    assert len(RESULTS) == 9


def test_picture_is_drawn(tmp_path: Path) -> None:
    plot_runs(RUNS, tmp_path / "plot.png")
    image = matplotlib.image.imread(tmp_path / "plot.png")
    assert image.shape[0] > 500
    assert np.unique(image[..., :3].reshape(-1, 3), axis=0).shape[0] > 10
