"""Looking at results must not cost the seconds that importing PyTorch takes."""

import subprocess
import sys

MODULES = (
    *("report.mask_view", "report.multirun_report", "report.search_report"),
    *("commands.show_report", "commands.show_ui"),
)


def test_looking_at_results_does_without_pytorch() -> None:
    program = (
        f"import importlib, sys\nfor name in {MODULES}:\n"
        "    importlib.import_module(f'speakerquant.{name}')\n    assert 'torch' not in sys.modules, name"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
