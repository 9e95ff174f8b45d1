"""Looking at results must not cost the seconds that importing PyTorch takes."""

import subprocess
import sys

import pytest

MODULES = ("mask_view", "multirun_report", "search_report")


@pytest.mark.parametrize("module", MODULES)
def test_reports_do_without_pytorch(module: str) -> None:
    program = f"import sys, speakerquant.report.{module}; print('torch' in sys.modules)"
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "False"
