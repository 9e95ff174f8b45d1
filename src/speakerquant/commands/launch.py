"""What the console scripts start; only the module of the command that was typed is imported."""

import importlib
import sys
from functools import partial
from importlib.metadata import version


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


evaluate_mask = partial(_launch, "evaluate_mask")
train_network = partial(_launch, "train_network")
show_report = partial(_launch, "show_report")
show_ui = partial(_launch, "show_ui")
inspect_engine = partial(_launch, "inspect_engine")
register_model = partial(_launch, "register_model")
export_mask = partial(_launch, "export_mask")
verify_speaker = partial(_launch, "verify_speaker")
check_data = partial(_launch, "check_data")
manage_cache = partial(_launch, "manage_cache")
