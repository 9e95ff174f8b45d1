"""TensorRT for RTX on any machine: it builds real engines, and says what it does not build or run."""

import importlib
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import Subject, write_model

from speakerquant.architectures.checkpoint_sources import shipped_checkpoint
from speakerquant.architectures.checkpoints import load_checkpoint
from speakerquant.cache import Cache
from speakerquant.engine.backends import engine_builder
from speakerquant.engine.base import Engine, EngineBuilder
from speakerquant.engine.tensorrt import worker
from speakerquant.engine.tensorrt.tensorrt_graph import adapt
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtRtxSettings
from speakerquant.errors import UserError
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FP16, INT8

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
pytestmark = pytest.mark.slow

NETWORK = load_checkpoint(shipped_checkpoint()).network
WORKER = Path(worker.__file__).parent

Build = Callable[..., EngineBuilder]


@pytest.fixture
def rtx(tmp_path: Path) -> Build:
    """A builder with the given settings, and a cache of its own."""
    return lambda **settings: engine_builder(
        "tensorrt_rtx", TensorRtRtxSettings(**settings), Cache(tmp_path / "cache")
    )


@pytest.fixture(scope="module")
def model(small: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network in INT8 throughout."""
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    write_model(small.network, path, Mask(small.network.units(), {"*": INT8}), small.table)
    return path


@pytest.fixture(scope="module")
def engine(model: Path) -> Engine:
    """Built of it for GPUs of one kind."""
    return engine_builder("tensorrt_rtx", TensorRtRtxSettings(compute_capability="8.6")).build(model)


def test_the_same_network_gives_the_same_size(rtx: Build, engine: Engine, model: Path) -> None:
    again = rtx(compute_capability="8.6").build(model)
    assert again.size_bytes == pytest.approx(engine.size_bytes, rel=0.005)


@pytest.mark.parametrize("given", ["8.9", 8.9, ["8.6", 8.9], [7.5]])
def test_kinds_of_gpu_are_named_as_text_or_numbers(rtx: Build, given: Any) -> None:
    named = given if isinstance(given, list) else [given]
    environment = rtx(compute_capability=given).environment
    assert environment["compute capability"] == ", ".join(map(str, named))


@pytest.mark.parametrize("given", [7.5, ["8.6", 8.9]])
def test_builds_for_the_kinds_of_gpu_that_are_named(rtx: Build, model: Path, given: Any) -> None:
    builder = rtx(compute_capability=given)
    assert builder.build(model).provenance.environment == builder.environment


@pytest.mark.parametrize("given", ["9.0", 9.9, "ampere", ["8.6", ""]])
def test_other_kinds_are_refused_with_those_it_knows(rtx: Build, given: Any) -> None:
    with pytest.raises(UserError, match=r"engine\.compute_capability=.* builds for 7\.5, .*8\.6.* only"):
        rtx(compute_capability=given)


def test_half_precision_halves_the_weights(rtx: Build, tmp_path: Path) -> None:
    sizes = []
    for name, precisions in {"fp32": {}, "fp16": {"*": FP16}}.items():
        write_model(NETWORK, tmp_path / name, Mask(NETWORK.units(), precisions))
        sizes.append(rtx().build(tmp_path / name).size_bytes)
    assert sizes[1] < 0.6 * sizes[0]


def test_only_fp16_layers_may_be_computed_in_half(
    small: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What TensorRT before version 10 is told, which needs a GPU even to parse, of a network parsed here."""
    monkeypatch.setattr(sys, "argv", ["worker", "tensorrt_rtx"])
    monkeypatch.setenv("POLYGRAPHY_USE_TENSORRT_RTX", "1")
    monkeypatch.syspath_prepend(str(WORKER))
    backend = importlib.import_module("backend")
    path = tmp_path / "model.onnx"
    mask = Mask(small.network.units(), {"se_res2block1": INT8, "se_res2block2": FP16})
    write_model(small.network, path, mask, small.table)
    model = onnx.load(path)
    adapt(model)
    onnx.save(model, path)
    _, network, _ = backend.NetworkFromOnnxPath(str(path), strongly_typed=True)()
    told = {layer.name for layer in backend.arithmetic_in_fp32(network)}
    products = {layer.name for layer in network if layer.type.name == "CONVOLUTION"}
    free = {name for name in products if name.startswith(("se_res2block1.", "se_res2block2."))}
    assert free and products - told == free
    assert "/se_res2block2/Relu" in told


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_what_needs_a_gpu_says_so(rtx: Build, engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"compute_capability=current: there is no GPU here"):
        rtx(compute_capability="current")
    builder = rtx()
    assert not builder.executes
    with pytest.raises(UserError, match=r"for GPUs of compute capability 8\.6; there is none here"):
        engine.embed(np.zeros((1, 80, 100), np.float32))
    engine.save(tmp_path / "engine")
    with pytest.raises(UserError, match=r"engine: there is no GPU here to run it"):
        builder.load(tmp_path / "engine")


def test_an_engine_of_another_version_is_refused(rtx: Build, engine: Engine, tmp_path: Path) -> None:
    builder, path = rtx(), tmp_path / "engine"
    engine.save(path)
    record = path.with_name("engine.json")
    version = builder.environment["TensorRT for RTX"]
    record.write_text(record.read_text().replace(version, "1.0.0.1"))
    with pytest.raises(UserError, match=rf"made with TensorRT for RTX 1\.0\.0\.1, here is {version}"):
        builder.load(path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"time_limit": 0.001}, r"no answer to \w+ within engine\.time_limit=0\.001 s"),
        ({"workspace_mb": 1}, r"the engine could not be built: .*OutOfMemory"),
    ],
    ids=["time", "memory"],
)
def test_running_out_is_one_line(rtx: Build, tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    write_model(NETWORK, tmp_path / "model.onnx")
    with pytest.raises(UserError, match=says) as caught:
        rtx(**settings).build(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "installed",
    [
        {"tensorrt-rtx-cu12-libs": "1.7.1.116", "tensorrt-rtx-cu13-libs": "1.7.1.116"},
        {"tensorrt_rtx_cu13_libs": "1.6.1.120", "tensorrt_rtx_cu13_bindings": "1.7.1.116"},
    ],
    ids=["for two versions of CUDA", "of two versions"],
)
def test_parts_that_do_not_belong_together(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(WORKER))
    rtx_parts = importlib.import_module("rtx_parts")
    rtx_parts.refuse_mixed_parts(
        {**dict([*installed.items()][:1]), "tensorrt": "10.1", "tensorrt_rtx": "1.7"}
    )
    with pytest.raises(
        Exception, match=r"side by side \(tensorrt_rtx_cu1\w+ 1\S+, tensorrt_rtx_cu1\w+ 1\S+\)"
    ):
        rtx_parts.refuse_mixed_parts(installed)


def test_an_interpreter_without_it(rtx: Build, tmp_path: Path) -> None:
    """A bare interpreter, which lacks what the worker imports first."""
    venv.create(tmp_path / "bare", with_pip=False)
    with pytest.raises(UserError, match=r"package numpy is not installed; install tensorrt-rtx, polygraphy"):
        rtx(python=str(tmp_path / "bare" / "bin" / "python"))
