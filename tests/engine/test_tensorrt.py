"""What holds for the TensorRT engine on any machine: its worker is a real process, TensorRT itself stands in.

With a GPU, the contract of all engines (tests/contract) is about the real one.
"""

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
import torch
from conftest import Subject
from processes import Program

from speakerquant.architectures.layers import geometries
from speakerquant.cache import Cache
from speakerquant.configuration.schema import TensorRtConfig, TensorRtRtxConfig
from speakerquant.engine.backends import engine_builder
from speakerquant.engine.base import EngineBuilder, Lengths
from speakerquant.engine.tensorrt import worker
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtRtxSettings, TensorRtSettings
from speakerquant.errors import UserError
from speakerquant.graph.export import export_network
from speakerquant.measuring.check import fidelity
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FP16, FP32, INT8
from speakerquant.quantization.simulate import simulate

pytestmark = pytest.mark.slow

WORKER = Path(worker.__file__).parent
OLDEST_PYTHON = (3, 8)

StandIn = Callable[..., str]
Build = Callable[..., EngineBuilder]


@pytest.fixture
def tensorrt(tmp_path: Path) -> Build:
    """A builder with the given settings, and a cache of its own."""
    return lambda **settings: engine_builder(
        "tensorrt", TensorRtSettings(**settings), Cache(tmp_path / "cache")
    )


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    """GPU memory is free again when nobody holds an engine any more, however the test ended."""
    yield
    commands = []
    for child in psutil.Process().children():
        with suppress(psutil.ZombieProcess):  # which holds nothing any more
            commands.append(" ".join(child.cmdline()))
    assert not any("tensorrt_stand_in" in command for command in commands)


def test_the_way_to_the_worker_and_back(
    tensorrt: Build, tensorrt_stand_in: StandIn, onnx_path: Path, small: Subject
) -> None:
    """Everything but TensorRT itself: what it is given, the protocol, batches, order, save and load."""
    builder = tensorrt(python=tensorrt_stand_in("--on", "build=chatter"))
    engine = builder.build(onnx_path)
    embeddings = np.stack(list(engine.embed_many(small.recordings)))
    assert fidelity(embeddings, embed_with_network(_simulated(small), small.recordings)) >= 0.999
    batch = np.stack([x[:, :100] for x in small.recordings])
    np.testing.assert_allclose(engine.embed(batch)[3:4], engine.embed(batch[3:4]), atol=1e-4)
    engine.save(onnx_path.with_name("engine"))
    loaded = builder.load(onnx_path.with_name("engine"))
    np.testing.assert_array_equal(loaded.embed(batch), engine.embed(batch))
    assert loaded.provenance.environment["GPU"] == "stand-in"


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="this interpreter has TensorRT")
def test_an_interpreter_without_tensorrt(tensorrt: Build) -> None:
    with pytest.raises(UserError, match=r"package tensorrt is not installed; install .* engine\.python"):
        tensorrt(python=sys.executable)


@pytest.mark.skipif(
    "SPEAKERQUANT_TENSORRT_PYTHON" not in os.environ,
    reason="SPEAKERQUANT_TENSORRT_PYTHON does not name an interpreter with TensorRT",
)
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_tensorrt_without_a_gpu(tensorrt: Build) -> None:
    with pytest.raises(UserError, match=r"there is no GPU here: .* engine=openvino"):
        tensorrt(python=os.environ["SPEAKERQUANT_TENSORRT_PYTHON"])


@pytest.mark.parametrize(
    ("python", "says"),
    [
        ("/nowhere/python", "cannot be started"),
        (shutil.which("false"), "ended with exit code 1"),
        (shutil.which("yes"), "ended with exit code"),
    ],
)
def test_what_is_no_interpreter(tensorrt: Build, python: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        tensorrt(python=python)
    assert python in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("echo '[1, 2]'; read line", "does not answer as a worker"),
        ("printf '{'; exec sleep 60", r"no answer to describe within engine\.time_limit=1 s"),
        ("exec >&-; exec sleep 60", "stopped answering and was ended during describe"),
    ],
    ids=["something else", "half an answer", "nothing more"],
)
def test_what_answers_otherwise(
    tensorrt: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, says: str
) -> None:
    monkeypatch.setattr("speakerquant.engine.tensorrt.worker_process._GRACE", 0.2)
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nread line; {does}\n")
    program.chmod(0o755)
    with pytest.raises(UserError, match=says):
        tensorrt(python=str(program), time_limit=1.0)


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("crash", r"ended by SIGSEGV \(the driver has gone\) during build"),
        ("fail", "Error Code 2: OutOfMemory"),
        ("exception", "KeyError: 'surprise'"),
    ],
)
def test_trouble_in_the_worker_is_one_line(
    tensorrt: Build, tensorrt_stand_in: StandIn, onnx_path: Path, trouble: str, says: str
) -> None:
    builder = tensorrt(python=tensorrt_stand_in("--on", f"build={trouble}"))
    with pytest.raises(UserError, match=says) as caught:
        builder.build(onnx_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("request_", ["build", "embed"])
def test_a_hanging_worker_is_stopped(
    tensorrt: Build, tensorrt_stand_in: StandIn, onnx_path: Path, small: Subject, request_: str
) -> None:
    with pytest.raises(UserError, match=rf"no answer to {request_} within engine\.time_limit=2 s"):
        builder = tensorrt(python=tensorrt_stand_in("--on", f"{request_}=hang"), time_limit=2.0)
        builder.build(onnx_path).embed(small.recordings[0][np.newaxis])


def test_a_crash_while_running_spoils_that_engine_only(
    tensorrt: Build, tensorrt_stand_in: StandIn, onnx_path: Path, small: Subject
) -> None:
    batch = small.recordings[0][np.newaxis]
    broken = tensorrt(python=tensorrt_stand_in("--on", "embed=crash")).build(onnx_path)
    for _ in range(2):
        with pytest.raises(UserError, match="SIGSEGV"):
            broken.embed(batch)
    assert tensorrt(python=tensorrt_stand_in()).build(onnx_path).embed(batch).shape == (1, 48)


def build(python: str, model: Path, cache: Path) -> None:
    builder = engine_builder("tensorrt", TensorRtSettings(python=python), Cache(cache))
    print("building", flush=True)
    builder.build(model)


def test_the_worker_ends_when_its_parent_is_killed(
    tensorrt_stand_in: StandIn, onnx_path: Path, tmp_path: Path
) -> None:
    """Even amid a request that would take for ever."""
    python = tensorrt_stand_in("--on", "build=hang")
    parent = Program(build, python, onnx_path, tmp_path / "cache")
    assert parent.output.readline() == "building\n"
    deadline = time.monotonic() + 20
    while not (workers := psutil.Process(parent.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)  # so that the request has come
    parent.stop(signal.SIGKILL)
    parent.end()
    assert workers and psutil.wait_procs(workers, timeout=10)[1] == []


def test_a_plan_of_another_version_is_refused_with_what_differs(
    tensorrt: Build, tensorrt_stand_in: StandIn, onnx_path: Path, tmp_path: Path
) -> None:
    tensorrt(python=tensorrt_stand_in()).build(onnx_path).save(tmp_path / "engine")
    with pytest.raises(UserError, match=r"made with TensorRT 8\.5\.3\.1, here is 10\.1"):
        tensorrt(python=tensorrt_stand_in("--version", "10.1")).load(tmp_path / "engine")


def test_a_plan_that_cannot_be_loaded_for_another_reason_says_that_one(
    tensorrt: Build, tensorrt_stand_in: StandIn, onnx_path: Path, tmp_path: Path
) -> None:
    tensorrt(python=tensorrt_stand_in()).build(onnx_path).save(tmp_path / "engine")
    with pytest.raises(UserError, match="OutOfMemory") as caught:
        tensorrt(python=tensorrt_stand_in("--on", "load=fail")).load(tmp_path / "engine")
    assert "build it again" not in str(caught.value)


def test_timings_that_cannot_be_kept_are_named_before_building(
    tensorrt: Build, tensorrt_stand_in: StandIn, onnx_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache" / "kernel_timings").write_text("in the way")
    builder = tensorrt(python=tensorrt_stand_in("--on", "build=crash"))
    with pytest.raises(UserError, match=r"cannot write the cache .*kernel_timings"):
        builder.build(onnx_path)


def test_longer_recordings_than_allowed_are_refused_before_building(
    tensorrt: Build, tensorrt_stand_in: StandIn, onnx_path: Path
) -> None:
    builder = tensorrt(python=tensorrt_stand_in(), max_frames=500)
    with pytest.raises(UserError, match=r"engine\.max_frames=500: the longest recording has 812 frames"):
        builder.build(onnx_path, Lengths(300, 812))


def test_an_engine_says_which_lengths_it_was_built_for(
    tensorrt: Build, tensorrt_stand_in: StandIn, onnx_path: Path
) -> None:
    builder = tensorrt(python=tensorrt_stand_in())
    settings = builder.build(onnx_path, Lengths(300, 812)).provenance.settings
    assert settings == {"max_batch": "1", "opt_frames": "300", "max_frames": "812"}
    assert builder.settings == {"max_batch": "1"}


def test_a_network_is_built_for_no_fewer_frames_than_it_takes(
    tensorrt: Build, tensorrt_stand_in: StandIn, tmp_path: Path
) -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv1d(80, 8, 15), torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten()
    )
    onnx.save(export_network(network, 80, min_frames=15), tmp_path / "model.onnx")
    builder = tensorrt(python=tensorrt_stand_in(), opt_frames=4)
    settings = builder.build(tmp_path / "model.onnx", Lengths(300, 812, shortest=15)).provenance.settings
    assert settings["opt_frames"] == "15"


@pytest.mark.parametrize(
    ("name", "config"), [("tensorrt", TensorRtConfig), ("tensorrt_rtx", TensorRtRtxConfig)]
)
def test_what_is_measured_of_an_engine_changes_nothing_in_it(
    tensorrt_stand_in: StandIn, name: str, config: type[TensorRtConfig]
) -> None:
    python = tensorrt_stand_in()
    measured = config(name=name, min_fidelity=0.9, latency_requests=5, python=python, opt_frames=200)
    assert engine_builder(name, measured).settings == {"max_batch": "1", "opt_frames": "200"}


def test_fp16_is_a_precision_of_the_mask(tensorrt: Build, tensorrt_stand_in: StandIn, small: Subject) -> None:
    builder = tensorrt(python=tensorrt_stand_in())
    layers = geometries(small.network)
    assert all(
        builder.runs(precision, layer) for precision in (FP32, FP16, INT8) for layer in layers.values()
    )
    builder.check_mask(Mask(small.network.units(), {"aggregation_conv": FP16}), layers)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_batch": 0}, r"engine\.max_batch=0"),
        ({"opt_frames": 0}, r"engine\.opt_frames=0"),
        ({"optimization_level": 6}, r"engine\.optimization_level=6"),
        ({"time_limit": 0.0}, r"engine\.time_limit=0"),
    ],
)
def test_impossible_settings(settings: dict[str, float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        TensorRtSettings(**settings)


def test_rtx_runs_where_a_gpu_of_a_kind_is_that_it_was_built_for(
    tensorrt_stand_in: StandIn, onnx_path: Path, small: Subject, tmp_path: Path
) -> None:
    def rtx(*capabilities: str) -> EngineBuilder:
        settings = TensorRtRtxSettings(python=tensorrt_stand_in(), compute_capability=[*capabilities])
        return engine_builder("tensorrt_rtx", settings, Cache(tmp_path / "cache"))

    here = rtx("8.9", "current")
    assert here.executes and here.environment["compute capability"] == "8.9, 8.6"
    engine = here.build(onnx_path)
    embeddings = np.stack(list(engine.embed_many(small.recordings)))
    assert fidelity(embeddings, embed_with_network(_simulated(small), small.recordings)) >= 0.999
    engine.save(onnx_path.with_name("engine"))
    with rtx("8.6").load(onnx_path.with_name("engine")) as loaded:
        np.testing.assert_array_equal(np.stack(list(loaded.embed_many(small.recordings))), embeddings)
    elsewhere = rtx("8.9")
    assert not elsewhere.executes
    elsewhere.build(onnx_path).save(onnx_path.with_name("engine"))
    with pytest.raises(UserError, match=r"made with compute capability 8\.9, here is 8\.6"):
        rtx("8.6").load(onnx_path.with_name("engine"))


def test_auto_takes_tensorrt_where_it_works_and_says_so(
    tensorrt_stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert engine_builder("auto", TensorRtSettings(python=tensorrt_stand_in())).name == "tensorrt"
    assert "engine=auto: tensorrt on 8.5.3.1, stand-in, 8.6" in caplog.text


def test_auto_takes_openvino_elsewhere_and_says_why(
    tensorrt_stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    broken = tensorrt_stand_in("--on", "describe=crash")
    assert engine_builder("auto", TensorRtSettings(python=broken)).name == "openvino"
    assert "engine=auto: openvino, since TensorRT of" in caplog.text and "SIGSEGV" in caplog.text


@pytest.mark.parametrize("path", sorted(WORKER.glob("*.py")), ids=lambda path: path.name)
def test_the_worker_is_written_for_old_interpreters(path: Path) -> None:
    assert isinstance(ast.parse(path.read_text(), feature_version=OLDEST_PYTHON), ast.Module)


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10"])
def test_the_worker_starts_on_old_interpreters(tensorrt: Build, version: str) -> None:
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "--version"], capture_output=True).returncode:
        pytest.skip(f"there is no Python {version}")
    with pytest.raises(UserError, match=r"the package \w+ is not installed|there is no GPU here"):
        tensorrt(python=python)


def _simulated(subject: Subject):
    return simulate(subject.network, _all_int8(subject), subject.table)


def _all_int8(subject: Subject) -> Mask:
    return Mask(subject.network.units(), {"*": INT8})
