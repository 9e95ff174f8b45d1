"""``speakerquant-train``: trains a speaker network from random weights, or fine-tunes a checkpoint."""

import hydra
from omegaconf import DictConfig

from speakerquant.commands.console_script import config_folder, hydra_job, importing, run_command
from speakerquant.configuration.conversion import flat, typed
from speakerquant.configuration.schema import TrainConfig, register_schemas


@hydra.main(config_path=config_folder(), config_name="train", version_base="1.3")
def _application(config: DictConfig) -> None:
    with importing():
        from speakerquant.commands.training import train

    with hydra_job():
        train(typed(config, TrainConfig), flat(config))


def main() -> None:
    """Entry point of ``speakerquant-train``."""
    register_schemas()
    run_command(_application)
