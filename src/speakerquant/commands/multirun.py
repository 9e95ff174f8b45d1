"""A multirun is recorded as one MLflow parent run, whose children are its jobs."""

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from speakerquant.commands.console_script import by_product, fail
from speakerquant.configuration.conversion import flat
from speakerquant.errors import UserError
from speakerquant.measuring.result import DRAWS_FILE, MASK_PREFIX, MaskRun
from speakerquant.report.multirun_report import draw_runs, print_runs, smallest_without_loss
from speakerquant.report.networks import has_several_networks, with_differences
from speakerquant.report.run_names import differing_settings, name_runs
from speakerquant.report.run_words import runs_table
from speakerquant.report.table import print_lines
from speakerquant.statistics.comparison import read_draws
from speakerquant.tracking.client import Tracking, connect, is_file
from speakerquant.tracking.recorded_runs import (
    Runs,
    children,
    close_dead_multirun,
    downloaded,
    fail_running,
    mask_runs,
    rename_runs,
)
from speakerquant.tracking.runs import JOBS_TAG, PARENT_FILE, SUMMARY, TrackedRun
from speakerquant.tracking.views import share_masks

PICTURE_FILE = "size_vs_eer.png"
_LOCK_FILE = ".multirun.lock"
_LAUNCHERS_OF_ONE_HOST = {"basic", "joblib", "submitit_local"}

log = logging.getLogger(__name__)

folder_in_use = ExitStack()
"""Holds the folder of this process's multirun; not the callback, which Hydra sends to workers."""


@dataclass(frozen=True)
class _ParentRecord:
    """Where an open parent run is, and the folder of the multirun, which has so many jobs."""

    uri: str
    experiment: str
    run_id: str
    folder: str
    num_jobs: int


class ParentRun(Callback):
    """Hydra callback that opens the parent run before the first job.

    It leaves closing to the module ``recorded_multirun``, as Hydra calls no callback at the end when a job
    failed.

    Args:
        journal: File to write down in which run was opened.
    """

    def __init__(self, journal: str) -> None:
        self._journal = Path(journal)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        _warn_of_shared_file(config)
        if config.hydra.sweeper.get("application"):
            return  # it records the search itself, as one run however many commands work on it
        if settings := search_settings(config):
            fail(f"{settings[0]}: for searches only, such as experiment=search; leave it out")
        uri, experiment = config.tracking.uri, config.tracking.experiment
        folder = Path(config.hydra.sweep.dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder_in_use.enter_context(_alone_in(folder))
            num_jobs = _num_jobs(config)
            tracking, record_file = connect(uri, experiment), folder / PARENT_FILE
            if record_file.exists():  # of one whose process is dead, as this one has the folder to itself
                close_dead_multirun(tracking, record_file.read_text(encoding="utf-8"))
            run = TrackedRun.start(tracking, _name(config), tags={JOBS_TAG: str(num_jobs)})
            record = _ParentRecord(uri, experiment, run.run_id, str(folder), num_jobs)
            self._journal.write_text(json.dumps(asdict(record)), encoding="utf-8")
            record_file.write_text(run.run_id, encoding="utf-8")
        except Exception as error:  # whatever it is, Hydra would log it and carry on
            folder_in_use.close()
            fail(error)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other multiruns out of the folder: their jobs would replace each other's files."""
    lock = FileLock(folder / _LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"hydra.sweep.dir={folder}: another multirun is at work there; wait for its end, or choose "
            "another folder"
        ) from None
    except NotImplementedError:
        log.info("%s does not keep other multiruns out: its file system has no locks", folder)
    try:
        yield
    finally:
        lock.release()


def _warn_of_shared_file(config: DictConfig) -> None:
    """Warn if jobs of several hosts would write into one SQLite file."""
    launcher, uri = config.hydra.runtime.choices["hydra/launcher"], config.tracking.uri
    if launcher not in _LAUNCHERS_OF_ONE_HOST and is_file(uri):
        log.warning(
            "tracking.uri=%s: jobs of %s on several hosts would write into this file, which SQLite does not "
            "withstand on a network file system; give the address of an MLflow server (docs/cluster.md)",
            uri,
            launcher,
        )


def _name(config: DictConfig) -> str:
    """What the multirun is: its experiment, its data and its engine, as they were chosen or are swept."""
    choices = config.hydra.runtime.choices
    typed: dict[str, str] = dict(each.lstrip("+").partition("=")[::2] for each in config.hydra.overrides.task)
    experiment = typed.get("experiment", choices.get("experiment"))
    if experiment in (None, "null"):
        experiment = "multirun"
    evaluated_on = typed.get("data.evaluate_on", config.data.evaluate_on.name)
    data = f"{typed.get('data', choices.data)} {evaluated_on}"
    return " · ".join([experiment, data, typed.get("engine", choices.engine)])


def _num_jobs(config: DictConfig) -> int:
    """How many jobs Hydra's sweeper makes of a configuration."""
    sweeps = [f"{key}={values}" for key, values in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    overrides = parser.parse_overrides([*sweeps, *config.hydra.overrides.task])
    return sum(map(len, BasicSweeper.split_arguments(overrides, max_batch_size=None)))


def search_settings(config: DictConfig) -> list[str]:
    """What a configuration sets for a search: bounds of its front, and precisions to choose from."""
    given = flat(OmegaConf.masked_copy(config, ["front", "space"]))
    return [f"{key}={value}" for key, value in given.items() if value not in (None, [])]


def parent_run_id() -> str | None:
    """In a Hydra job: the MLflow run of the multirun that it belongs to, if it does."""
    hydra = HydraConfig.get()
    if hydra.mode is not RunMode.MULTIRUN:
        return None
    return (Path(hydra.sweep.dir) / PARENT_FILE).read_text(encoding="utf-8")


def _mask_runs(tracking: Tracking, recorded: Runs) -> list[MaskRun]:
    """The runs; those of several networks with what they differ by."""
    runs = mask_runs(recorded)
    if not has_several_networks(runs):
        return runs
    with tempfile.TemporaryDirectory() as folder:
        kept = downloaded(tracking, recorded, DRAWS_FILE, Path(folder))
        return with_differences(runs, [read_draws(path) if path else None for path in kept])


def _failure(num_failed: int, num_recorded: int, num_jobs: int) -> str:
    """Why a multirun failed, in words."""
    if num_recorded < num_jobs:
        return f"{num_recorded} of {num_jobs} runs were recorded, {num_failed} of which failed"
    return f"{num_failed} of {num_jobs} runs failed" if num_failed else "the multirun was broken off"


def close_parent_run(journal: Path, succeeded: bool) -> None:
    """Close the run in a journal, as FAILED if any job failed; then show and log what the jobs measured."""
    record = _ParentRecord(**json.loads(journal.read_text(encoding="utf-8")))
    parent = TrackedRun(connect(record.uri, record.experiment, patient=succeeded), record.run_id)
    parent.restore()
    fail_running(parent.tracking, parent.run_id)
    recorded = children(parent.tracking, parent.run_id)
    runs = _mask_runs(parent.tracking, recorded)
    rename_runs(parent.tracking, recorded, [each.name for each in name_runs(runs)])
    failed = sum(run.failure is not None for run in runs)
    if succeeded and not any(each.is_dir() for each in Path(record.folder).iterdir()):
        reason = "nothing to evaluate: one of the sweeps, such as glob(...), has no values"
        parent.fail(reason)
        raise UserError(reason)
    if succeeded and not failed:
        parent.finish()
    else:
        parent.fail(_failure(failed, len(runs), record.num_jobs))
    if runs:
        print_runs(runs, title=record.folder)
        print_lines([f"recorded as MLflow run {record.run_id}"])
    if failed < len(runs):
        units = dict.fromkeys(f"{MASK_PREFIX}{unit}" for run in runs for unit in run.mask)
        params = [*differing_settings(runs), *units]
        link = share_masks(parent.tracking, parent.run_id, params)
        best = smallest_without_loss(runs)
        # Of several networks or lists none has the one number.
        metrics = best[0].run.metrics if len(best) == 1 else {}
        parent.log(
            tags={"smallest_without_loss": "; ".join(each.name for each in best)} if best else {},
            metrics={name: metrics[name] for name in SUMMARY if name in metrics},
            note=f"{link}\n\n{runs_table(runs)}",
        )
        picture = Path(record.folder) / PICTURE_FILE
        with by_product(picture):
            draw_runs(runs, picture)
            parent.log_artifact(picture)
