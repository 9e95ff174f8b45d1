"""Multiruns read back from MLflow, as table, picture, web page and Markdown."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from speakerquant.commands.console_script import by_product
from speakerquant.configuration.tracking_schema import ReportConfig
from speakerquant.errors import UserError
from speakerquant.measuring.result import DRAWS_FILE, LABELS_FILE, RANGES_FILE, SCORES_FILE
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.report.comparison import ScoredRun, compare_runs
from speakerquant.report.html_report import write_html, write_markdown
from speakerquant.report.multirun_report import draw_runs, print_runs
from speakerquant.report.networks import with_differences
from speakerquant.report.run_names import name_runs, short_id
from speakerquant.report.search_files import FRONT_FILE, read_recommendation
from speakerquant.report.table import print_lines
from speakerquant.statistics.comparison import read_draws
from speakerquant.tracking.client import Tracking, find_experiment
from speakerquant.tracking.recorded_runs import (
    Runs,
    children,
    downloaded,
    downloaded_file,
    latest_multirun,
    mask_runs,
    missing_runs,
    no_multirun,
    run_name,
)

_SUFFIXES = (".html", ".md", ".png")

log = logging.getLogger(__name__)


def report(config: ReportConfig) -> None:
    """Print the table of the multiruns ``config.run`` (by default the latest) and write their report.

    Raises:
        UserError: a multirun is not there, or none of the runs finished.
    """
    page, text, picture = _outputs(config.output)
    tracking = find_experiment(config.tracking.uri, config.tracking.experiment)
    multiruns = {parent: children(tracking, parent) for parent in _parents(config.run, tracking)}
    scored = [each for parent, runs in multiruns.items() for each in _scored_runs(tracking, parent, runs)]
    shown = with_differences([each.run for each in scored], [each.draws for each in scored])
    scored = [replace(each, run=run) for each, run in zip(scored, shown, strict=True)]
    print_runs(shown, title=f"MLflow run {', '.join(multiruns)}")
    missing = [
        f"run={parent}: {sentence}"
        for parent, runs in multiruns.items()
        for sentence in missing_runs(tracking, parent, runs)
    ]
    is_lost = [each.scores is None and not each.run.failure for each in scored]
    if lost := [each.name for each in name_runs(shown) if is_lost[each.number]]:
        missing.append(
            f"{len(lost)} runs have lost their scores, so their curves are left out: {', '.join(lost)}"
        )
    for line in missing:
        log.warning("%s", line)
    recommendation = [line for parent in multiruns for line in _recommendation(tracking, parent)]
    print_lines(recommendation)
    names = {parent: run_name(tracking, parent) for parent in multiruns}
    title = ", ".join(f"{name} ({short_id(id)})" if len(names) > 1 else name for id, name in names.items())
    comparison = compare_runs(title, scored, recommendation, missing)
    for path, write in ((page, write_html), (text, write_markdown)):
        with by_product(path):
            write(comparison, path)
            print(f"written to {path}")
    with by_product(picture):
        draw_runs(shown, picture)
        print(f"drawn into {picture}")


def _outputs(given: str) -> list[Path]:
    """The files of a report, named alike; a name may end as one of them does."""
    output = Path(given)
    if output.name in ("", "..") or given.endswith("/"):
        raise UserError(f"output={given}: names no file; give the name of the files, such as output=report")
    stem = output.name.removesuffix(output.suffix) if output.suffix in _SUFFIXES else output.name
    return [output.with_name(f"{stem}{suffix}") for suffix in _SUFFIXES]


def _parents(given: Any, tracking: Tracking) -> list[str]:
    """Ids of the multiruns."""
    if given is None:
        return [latest_multirun(tracking)]
    if given == []:
        raise UserError("run=[]: names no multirun; give MLflow's ids, or leave it out for the latest")
    return [str(each) for each in given] if isinstance(given, list) else [str(given)]


def _scored_runs(tracking: Tracking, parent_id: str, runs: Runs) -> Iterator[ScoredRun]:
    if not runs:
        why = "".join(f"; {sentence}" for sentence in missing_runs(tracking, parent_id, runs))
        raise UserError(
            f"run={parent_id}: {no_multirun(tracking, parent_id)}; give MLflow's id of a multirun{why}"
        )
    with tempfile.TemporaryDirectory() as folder:
        kept = [
            downloaded(tracking, runs, name, Path(folder) / name)
            for name in (SCORES_FILE, LABELS_FILE, RANGES_FILE, DRAWS_FILE)
        ]
        for run, scores, labels, ranges, draws in zip(mask_runs(runs), *kept, strict=True):
            yield ScoredRun(
                run,
                _array(scores),
                _array(labels),
                ranges and CalibrationTable.load(ranges),
                read_draws(draws) if draws else None,
            )


def _recommendation(tracking: Tracking, parent_id: str) -> list[str]:
    """What a search recommends, as it was said; nothing of a multirun, which recommends nothing."""
    with tempfile.TemporaryDirectory() as folder, suppress(UserError):
        return read_recommendation(downloaded_file(tracking, parent_id, FRONT_FILE, Path(folder)))
    return []


def _array(path: Path | None) -> Any:
    return path and np.load(path, allow_pickle=False)
