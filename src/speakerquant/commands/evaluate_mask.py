"""``speakerquant``: one mask in, one result out."""

from typing import Any

import hydra
from omegaconf import DictConfig

from speakerquant.commands.console_script import config_folder, importing, run_command
from speakerquant.commands.recorded_multirun import recorded_multirun
from speakerquant.configuration.schema import register_schemas


def _application(config: DictConfig) -> dict[str, Any]:
    with importing():
        from speakerquant.commands.evaluation import evaluate_configured

    return evaluate_configured(config)


def _command() -> None:
    with recorded_multirun():
        hydra.main(config_path=config_folder(), config_name="run", version_base="1.3")(_application)()


def main() -> None:
    """Entry point of ``speakerquant``."""
    register_schemas()
    run_command(_command, "; the same command again goes on where it stopped")


if __name__ == "__main__":
    main()
