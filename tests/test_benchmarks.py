"""The benchmarks as a user looks at them: what they measure takes minutes and more."""

import runpy
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from processes import Program

pytestmark = [pytest.mark.slow, pytest.mark.release]

FOLDER = Path(__file__).parents[1] / "benchmarks"
BENCHMARKS = sorted(path for path in FOLDER.glob("*.py") if "__main__" in path.read_text())


def show_help(path: Path) -> None:
    sys.path.insert(0, str(path.parent))
    sys.argv = [path.name, "--help"]
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.skipif(find_spec("speechbrain") is None, reason="the extra peers is not installed")
@pytest.mark.parametrize("path", BENCHMARKS, ids=[path.stem for path in BENCHMARKS])
def test_its_help_says_how_it_is_used(path: Path) -> None:
    code, printed = Program(show_help, path).end()
    assert code == 0, printed
    assert printed.startswith(f"usage: {path.name} ")


def test_the_contract_needs_no_more_than_the_packages_that_are_named_and_says_what_failed(
    tensorrt_stand_in: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    gpu_proof = import_module("gpu_proof")
    python = tensorrt_stand_in("--on", "int8=fail")
    for name in ("hydra", "hypothesis", "mlflow", "openvino", "optuna"):
        assert name not in gpu_proof.PACKAGES
        (tmp_path / f"{name}.py").write_text("raise ImportError('there is none')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # those of packages that are hidden here
    found = gpu_proof._contract("tensorrt", python, time.monotonic() + 300)
    assert 0 < found["failures"] < found["tests"] - found["errors"] and found["errors"] > 0
    assert all("OutOfMemory" in why for why in found["failed"].values())
