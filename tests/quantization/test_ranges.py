"""Calibration tables survive the disk and refuse what is not one."""

from pathlib import Path

import numpy as np
import pytest

from speakerquant.errors import UserError
from speakerquant.quantization.ranges import CalibrationTable


@pytest.fixture
def table() -> CalibrationTable:
    weights = {"second": np.array([1.5, 0.1], np.float32), "first": np.array([2.0], np.float32)}
    return CalibrationTable("entropy", {"second": 0.1, "first": 3.0}, weights)


def test_loaded_table_is_the_saved_one(table: CalibrationTable, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "table.safetensors"
    table.save(path)
    loaded = CalibrationTable.load(path)
    assert loaded.method == table.method
    assert list(loaded.input_ranges.items()) == list(table.input_ranges.items())
    assert loaded.weight_ranges.keys() == table.weight_ranges.keys()
    for layer, ranges in table.weight_ranges.items():
        np.testing.assert_array_equal(loaded.weight_ranges[layer], ranges)
        assert loaded.weight_ranges[layer].dtype == np.float32


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
@pytest.mark.parametrize("kind", ["input", "weight"])
def test_refuses_ranges_that_cannot_scale(kind: str, value: float) -> None:
    input_range = value if kind == "input" else 1.0
    weight_range = np.array([1.0, value if kind == "weight" else 1.0], np.float32)
    with pytest.raises(UserError, match=f"the {kind} range of layer is not finite and positive"):
        CalibrationTable("max", {"layer": input_range}, {"layer": weight_range})


@pytest.mark.parametrize(
    ("inputs", "weights", "missing"),
    [(["a"], [], "a has no weight range"), (["a"], ["a", "b"], "b has no input range")],
)
def test_refuses_half_a_layer(inputs: list[str], weights: list[str], missing: str) -> None:
    with pytest.raises(UserError, match=missing):
        CalibrationTable("max", dict.fromkeys(inputs, 1.0), dict.fromkeys(weights, np.ones(2, np.float32)))


@pytest.mark.parametrize("broken", ["missing", "empty", "garbage", "truncated", "other safetensors"])
def test_refuses_what_is_not_a_table(table: CalibrationTable, broken: str, tmp_path: Path) -> None:
    path = tmp_path / "table.safetensors"
    table.save(path)
    whole = path.read_bytes()
    match broken:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "garbage":
            path.write_bytes(b"no table " * 100)
        case "truncated":
            path.write_bytes(whole[:-1])
        case "other safetensors":
            path.write_bytes(whole.replace(b"input_ranges", b"other_ranges"))
    with pytest.raises(UserError, match=str(path)) as caught:
        CalibrationTable.load(path)
    assert "\n" not in str(caught.value)


def test_failed_save_keeps_the_old_table(table: CalibrationTable, tmp_path: Path) -> None:
    path = tmp_path / "table.safetensors"
    table.save(path)
    broken = CalibrationTable("max", table.input_ranges, dict(table.weight_ranges))
    broken.weight_ranges["first"] = np.array([object()])  # type: ignore[index]
    with pytest.raises(Exception, match="object"):
        broken.save(path)
    assert CalibrationTable.load(path).method == "entropy"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
