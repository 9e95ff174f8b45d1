"""Looking at results, and asking what a command can do, must not cost the seconds that heavy imports take."""

import subprocess
import sys

import pytest

HEAVY = "torch mlflow scipy plotly matplotlib optuna onnx numpy"
LIGHT = (
    "show_report",
    "show_ui",
    "register_model",
    "verify_speaker",
    "inspect_engine",
    "check_data",
    "manage_cache",
)


def imported(modules: list[str], of: str) -> str:
    """Which of some packages a process has that has imported modules of the project."""
    program = (
        f"import importlib, sys\nfor name in {modules}:\n"
        f"    importlib.import_module(f'speakerquant.{{name}}')\nprint(*set({of.split()}) & set(sys.modules))"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_looking_at_results_does_without_pytorch() -> None:
    modules = ["report.mask_view", "report.multirun_report", "report.search_report"]
    assert imported([*modules, "commands.report_writing", "commands.ui_serving"], "torch") == "\n"


@pytest.mark.parametrize("command", LIGHT)
def test_a_command_says_what_it_can_do_before_it_imports_what_it_does_it_with(command: str) -> None:
    assert imported([f"commands.{command}"], HEAVY) == "\n"
