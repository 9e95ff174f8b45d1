"""``speakerquant-report``: multiruns read back from MLflow, as table, picture, web page and Markdown."""

import hydra
from omegaconf import DictConfig

from speakerquant.commands.console_script import config_folder, hydra_job, importing, run_command
from speakerquant.configuration.conversion import typed
from speakerquant.configuration.tracking_schema import ReportConfig, register_tracking_schemas


@hydra.main(config_path=config_folder(), config_name="report", version_base="1.3")
def _application(config: DictConfig) -> None:
    with importing():
        from speakerquant.commands.report_writing import report

    with hydra_job():
        report(typed(config, ReportConfig))


def main() -> None:
    """Entry point of ``speakerquant-report``."""
    register_tracking_schemas()
    run_command(_application)
