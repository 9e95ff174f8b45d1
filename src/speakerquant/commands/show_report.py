"""``speakerquant-report``: the table and the picture of a multirun, read back from MLflow."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from speakerquant.commands.console_script import by_product, config_folder, hydra_job, run_command
from speakerquant.configuration.schema import ReportConfig, register_schemas, typed
from speakerquant.errors import UserError
from speakerquant.report.multirun_report import draw_runs, print_runs
from speakerquant.tracking.client import connect
from speakerquant.tracking.recorded_runs import latest_multirun, mask_runs


def report(config: ReportConfig) -> None:
    """Print the table of ``config.run`` (or the latest multirun) and draw it into ``config.output``."""
    tracking = connect(config.tracking.uri, config.tracking.experiment)
    parent_id = config.run or latest_multirun(tracking)
    runs = mask_runs(tracking, parent_id)
    if not runs:
        raise UserError(
            f"run={parent_id}: no such multirun in the MLflow experiment {config.tracking.experiment}"
        )
    print_runs(runs, title=f"MLflow run {parent_id}")
    output = Path(config.output)
    with by_product(output):
        draw_runs(runs, output)
        print(f"drawn into {output}")


@hydra.main(config_path=config_folder(), config_name="report", version_base="1.3")
def _application(config: DictConfig) -> None:
    with hydra_job():
        report(typed(config, ReportConfig))


def main() -> None:
    """Entry point of ``speakerquant-report``."""
    register_schemas()
    run_command(_application)


if __name__ == "__main__":
    main()
