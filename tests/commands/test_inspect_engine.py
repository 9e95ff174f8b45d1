"""``speakerquant-engine``: what an engine file is, and how fast it runs."""

from pathlib import Path

import pytest
from conftest import Subject, write_model

from speakerquant.commands import inspect_engine
from speakerquant.engine.openvino.openvino_engine import OpenVinoBuilder
from speakerquant.engine.provenance import provenance_path

from .conftest import Command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine(small: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    mask = "input_conv=int8,embedding_linear=int8,aggregation_conv=fp32"
    properties = {
        "mask": mask,
        "rounding": "descent",
        "checkpoint": "0123",
        "frames_per_second": "100",
        "interface": "{}",
    }
    write_model(small.network, folder / "model.onnx", properties=properties)
    OpenVinoBuilder().build(folder / "model.onnx").save(folder / "engine.openvino")
    return folder / "engine.openvino"


def test_info_says_what_made_it_and_what_is_in_it(engine: Path, invoke: Command) -> None:
    finished = invoke(inspect_engine.main, "info", engine)
    assert finished.code == 0
    printed = finished.out
    size = f"{engine.stat().st_size / 1e6:.3f} MB"
    for text in ("openvino", "OpenVINO", "all but aggregation_conv", "0123", size):
        assert text in printed
    assert "interface" not in printed
    assert "rounding" not in printed, "no weight of this mask was rounded so"


def test_bench_prints_latency_throughput_and_real_time_factor(engine: Path, invoke: Command) -> None:
    finished = invoke(inspect_engine.main, "bench", engine)
    assert finished.code == 0
    printed = finished.out
    for text in ("ms (median)", "ms (95 %)", "s of speech per second", "real-time factor"):
        assert text in printed


@pytest.mark.parametrize("what", ["info", "bench"])
@pytest.mark.parametrize("spoil", ["missing", "cut", "alone"])
def test_what_is_no_engine_is_one_line(
    engine: Path, what: str, spoil: str, invoke: Command, tmp_path: Path
) -> None:
    path = tmp_path / "engine"
    if spoil != "missing":
        path.write_bytes(engine.read_bytes()[: -1 if spoil == "cut" else None])
    if spoil != "alone":
        provenance_path(path).write_bytes(provenance_path(engine).read_bytes())
    finished = invoke(inspect_engine.main, what, path)
    assert finished.code == 2
    error = finished.err
    assert error.startswith(f"error: {path}: {'no such file; give' if spoil == 'missing' else ''}")
    assert len(error.splitlines()) == 1
