"""Looking at results, and asking what a command can do, must not cost the seconds that heavy imports take."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

HEAVY = "torch mlflow scipy plotly matplotlib optuna onnx onnxruntime openvino numpy"
COMMANDS = sorted(
    script.attr for script in entry_points(group="console_scripts") if script.name.startswith("speakerquant")
)


def imported(program: str, *arguments: str, of: str) -> str:
    """Which of some packages a process has after a program."""
    program += f"\nprint('imported:', *set({of.split()}) & set(sys.modules))"
    command = [sys.executable, "-c", f"import sys\n{program}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]


def test_looking_at_results_does_without_pytorch() -> None:
    modules = ["report.mask_view", "report.multirun_report", "report.search_report"]
    modules += ["commands.report_writing", "commands.ui_serving"]
    program = "\n".join(f"import speakerquant.{module}" for module in modules)
    assert imported(program, of="torch") == "imported:"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        *((command, "--help") for command in COMMANDS),
        ("evaluate_mask", "--cfg=job"),
        ("evaluate_mask", "data.nothing=1"),
        ("evaluate_mask", "-sc query=bash"),
    ],
)
def test_a_command_says_what_it_can_do_before_it_imports_what_it_does_it_with(
    command: str, arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = "speakerquant mask="  # which tab completion is asked to complete
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    program = (
        f"from speakerquant.commands import launch\ntry:\n    launch.{command}()\nexcept SystemExit: ..."
    )
    assert imported(program, *arguments.split(), of=HEAVY) == "imported:"
