"""What the console scripts start. A command's own module, and all that it needs, is imported here."""

import gc
import importlib


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
    """Import the command and run it.

    What PyTorch and MLflow create while they are imported lives until the end. To look through it for
    garbage, again and again while it grows and once more at exit, would take a sixth of a start.
    """
    gc.disable()
    command = importlib.import_module(f"speakerquant.commands.{module}")
    gc.freeze()
    gc.enable()
    command.main()
