"""``speakerquant-register``: the engine of a run as a model in MLflow's registry, ready to be served."""

import hydra
from omegaconf import DictConfig

from speakerquant.commands.console_script import config_folder, hydra_job, importing, run_command
from speakerquant.configuration.conversion import typed
from speakerquant.configuration.tracking_schema import RegisterConfig, register_tracking_schemas


@hydra.main(config_path=config_folder(), config_name="register", version_base="1.3")
def _application(config: DictConfig) -> None:
    with importing():
        from speakerquant.commands.registration import register

    with hydra_job():
        register(typed(config, RegisterConfig))


def main() -> None:
    """Entry point of ``speakerquant-register``."""
    register_tracking_schemas()
    run_command(_application)
