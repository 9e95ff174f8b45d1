"""What the console scripts start; only the module of the command that was typed is imported."""

import importlib
import sys
from importlib.metadata import version


def evaluate_mask() -> None:
    """Start ``speakerquant``."""
    _launch("evaluate_mask")


def train_network() -> None:
    """Start ``speakerquant-train``."""
    _launch("train_network")


def show_report() -> None:
    """Start ``speakerquant-report``."""
    _launch("show_report")


def show_ui() -> None:
    """Start ``speakerquant-ui``."""
    _launch("show_ui")


def inspect_engine() -> None:
    """Start ``speakerquant-engine``."""
    _launch("inspect_engine")


def register_model() -> None:
    """Start ``speakerquant-register``."""
    _launch("register_model")


def export_mask() -> None:
    """Start ``speakerquant-export``."""
    _launch("export_mask")


def verify_speaker() -> None:
    """Start ``speakerquant-verify``."""
    _launch("verify_speaker")


def check_data() -> None:
    """Start ``speakerquant-data``."""
    _launch("check_data")


def manage_cache() -> None:
    """Start ``speakerquant-cache``."""
    _launch("manage_cache")


def _launch(module: str) -> None:
    if sys.argv[1:] == ["--version"]:  # of which Hydra would tell its own
        print(f"speakerquant {version('speakerquant')}")
        return
    try:
        from speakerquant.commands.console_script import importing

        with importing():
            command = importlib.import_module(f"speakerquant.commands.{module}")
        command.main()
    except KeyboardInterrupt:  # before run_command could tell
        print("interrupted", file=sys.stderr)
        sys.exit(130)
