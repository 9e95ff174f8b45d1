"""The contracts between packages in ``pyproject.toml``: the code keeps them, one wrong import breaks one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SEARCH = "Nothing that is measured knows the search"
LAYERS = "Layers know only those below them"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the code and its contracts."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(
        ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.safetensors", "__pycache__")
    )
    return tmp_path


def broken_contracts(house: Path) -> list[str]:
    """Names of the contracts that ``lint-imports`` finds broken in a copy."""
    finished = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    lines = finished.stdout.splitlines()
    # Behind the word stands how many imports a contract ignores, if any.
    broken = [name for name, is_broken, _ in (line.partition(" BROKEN") for line in lines) if is_broken]
    assert finished.returncode == (1 if broken else 0), finished.stdout + finished.stderr
    assert any(line.startswith("Contracts: ") for line in lines), finished.stdout
    return broken


def test_the_code_keeps_every_contract(house: Path) -> None:
    assert broken_contracts(house) == []


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("speakerquant/quantization/mask.py", "from speakerquant.report import table", LAYERS),
        ("speakerquant/tracking/client.py", "from speakerquant.report import table", LAYERS),
        ("speakerquant/progress.py", "from speakerquant import errors", LAYERS),
        ("speakerquant/statistics/metric.py", "from speakerquant.measuring import result", LAYERS),
        ("speakerquant/measuring/check.py", "from speakerquant.verification import verifier", LAYERS),
        ("speakerquant/forecasting/forecast.py", "from speakerquant.verification import verifier", LAYERS),
        ("speakerquant/new_package.py", "", LAYERS),
        (
            "speakerquant/engine/openvino/openvino_engine.py",
            "from speakerquant.engine.onnxruntime import onnxruntime_engine",
            "Backends know nothing of each other",
        ),
        (
            "speakerquant/quantization/ranges.py",
            "from speakerquant.corpus import trials",
            "Recordings and trials are for measuring, forecasting and training",
        ),
        ("speakerquant/statistics/error_rates.py", "from speakerquant.search import front", SEARCH),
        (
            "hydra_plugins/optuna_sweeper/_overrides.py",
            "from speakerquant.quantization import mask",
            "Sweeper and launchers know nothing of speaker verification",
        ),
        (
            "speakerquant/errors.py",
            "import hydra_plugins.optuna_sweeper",
            "The package knows no sweeper and no launcher",
        ),
        (
            "speakerquant/mask_search/warm_start.py",
            "from omegaconf import DictConfig",
            "Hydra and OmegaConf are for commands, configuration, the sweeper and the launchers",
        ),
        ("speakerquant/search/goals.py", "import mlflow", "MLflow is for tracking"),
        (
            "speakerquant/measuring/result.py",  # which report and tracking read
            "import torch",
            "PyTorch is not for search, report and tracking, not even indirectly",
        ),
        ("speakerquant/graph/export.py", "import openvino", "OpenVINO is for its engine"),
        ("speakerquant/graph/export.py", "import onnxruntime", "ONNX Runtime is for its engine"),
        (
            "speakerquant/engine/base.py",
            "import polygraphy",
            "Polygraphy, through which TensorRT is used, is for its engine",
        ),
    ],
)
def test_one_wrong_import_breaks_its_contract(
    house: Path, module: str, statement: str, contract: str
) -> None:
    path = house / "src" / module
    path.write_text(f"{path.read_text() if path.exists() else ''}\n{statement}\n")
    assert contract in broken_contracts(house)
