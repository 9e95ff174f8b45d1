"""``speakerquant-ui``: MLflow's UI, at the runs of the experiment."""

import hydra
from omegaconf import DictConfig

from speakerquant.commands.console_script import config_folder, hydra_job, importing, run_command
from speakerquant.configuration.conversion import typed
from speakerquant.configuration.tracking_schema import UiConfig, register_tracking_schemas


@hydra.main(config_path=config_folder(), config_name="ui", version_base="1.3")
def _application(config: DictConfig) -> None:
    with importing():
        from speakerquant.commands.ui_serving import show

    with hydra_job():
        show(typed(config, UiConfig))


def main() -> None:
    """Entry point of ``speakerquant-ui``."""
    register_tracking_schemas()
    run_command(_application)
