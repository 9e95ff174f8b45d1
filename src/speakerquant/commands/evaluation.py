"""The evaluation of a mask that a configuration describes, recorded in MLflow."""

import json
import logging
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from speakerquant.commands.console_script import hydra_job
from speakerquant.commands.multirun import parent_run_id, search_settings
from speakerquant.commands.recorded_evaluation import RecordedEvaluation
from speakerquant.configuration.conversion import flat, typed
from speakerquant.configuration.opening import (
    check_mask_keys,
    evaluated_list,
    mask_words,
    open_cache,
    open_mask,
    root_of,
)
from speakerquant.configuration.schema import RunConfig
from speakerquant.configuration.sharing import MULTIRUN, Sharing
from speakerquant.measuring.result import DIGESTS, FOLDER, RUN_ID, Result
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.report.multirun_report import print_runs
from speakerquant.search.application import TRIAL_FILE
from speakerquant.tracking.client import connect
from speakerquant.tracking.runs import MASK, tracked_run
from speakerquant.tracking.study import trial_tags

_CONFIG_NAME, _CONFIG_DIR = "run", "command-line"  # as Hydra calls who has named a folder
_AS_SINGLE_RUN = "hydra.mode=RUN"  # where an experiment makes a multirun of whatever names it

log = logging.getLogger(__name__)


def evaluate_configured(config: DictConfig) -> dict[str, Any]:
    """What a Hydra job does: evaluate the mask of its configuration, and print the result of a single run.

    The folder of the job gets ``result.json``, engine, ONNX and scores. An evaluation that fails closes its
    MLflow run as FAILED, with the message.

    Returns:
        The result, where it and the engine are (the folder and the MLflow run), and digests of its inputs.
    """
    hydra_config = HydraConfig.get()
    output = Path(hydra_config.runtime.output_dir)
    with hydra_job():
        task, subfolder = hydra_config.overrides.task, hydra_config.output_subdir
        check_mask_keys(override.lstrip("+").partition("=")[0] for override in task)
        run = typed(config, RunConfig)
        if hydra_config.mode is RunMode.RUN:
            _warn_of_what_is_for_multiruns(config, hydra_config)
        command = shlex.join(["speakerquant", *_where_from(hydra_config), *task])
        words = mask_words(run.mask)  # by which it is known until the network is open
        params = {**flat(config), **_options(hydra_config.runtime.choices), MASK: words}
        configuration = output / subfolder / "config.yaml" if subfolder else None
        parent_id = parent_run_id()
        # Amid a multirun the server has answered before.
        tracking = connect(run.tracking.uri, run.tracking.experiment, patient=parent_id is not None)
        prefix, tags = _of_trial(output)
        with tracked_run(tracking, prefix + words, parent_id, tags) as tracked:
            record = RecordedEvaluation(tracked, output, prefix, _source(run), configuration)
            record.started(params, command)
            result = _evaluate(run, output, record, MULTIRUN if parent_id else Sharing())
            if parent_id:  # a multirun has many engines; whoever runs a single mask wants its engine here
                record.keep_engine_once(result.engine)
            else:
                log.info("recorded as MLflow run %s", tracked.run_id)
    if hydra_config.mode is RunMode.RUN:
        print_runs([result.as_run()], title=str(output))
    return {**result.to_dict(), FOLDER: str(output), RUN_ID: tracked.run_id, DIGESTS: record.digests}


def _warn_of_what_is_for_multiruns(config: DictConfig, hydra_config: HydraConf) -> None:
    """Warn of what a single run has no use for; one that repeats a search's may have it, so it goes on."""
    launcher = hydra_config.runtime.choices["hydra/launcher"]
    if launcher != "basic":
        log.warning("hydra/launcher=%s: a single run is evaluated here, by no launcher; add -m", launcher)
    if not hydra_config.sweeper.get("application") and (settings := search_settings(config)):
        log.warning("%s: for searches only, such as experiment=search", settings[0])


def _of_trial(output: Path) -> tuple[str, dict[str, str]]:
    """What the run of a search's trial bears before its name, and its tags; nothing for other runs."""
    if not (output / TRIAL_FILE).exists():
        return "", {}
    trial = json.loads((output / TRIAL_FILE).read_text(encoding="utf-8"))
    prefix = "final: " if trial["is_final"] else f"trial {trial['trial']}: "
    return prefix, trial_tags(trial["study"], trial["trial"])


def _where_from(hydra_config: HydraConf) -> list[str]:
    """Of a command that repeats a job alone, what says where its configuration is from."""
    words = [
        word
        for source in hydra_config.runtime.config_sources
        if source.provider == _CONFIG_DIR
        for word in ("--config-dir", source.path)
    ]
    if hydra_config.job.config_name != _CONFIG_NAME:
        words += ["--config-name", str(hydra_config.job.config_name)]
    words += [each for each in hydra_config.overrides.hydra if each.startswith("hydra.searchpath=")]
    return words + ([_AS_SINGLE_RUN] if hydra_config.mode is RunMode.MULTIRUN else [])


def _source(config: RunConfig) -> str:
    """Where the recordings are, for whoever reads the record in another folder."""
    root = root_of(config.data, evaluated_list(config.data))
    return str(Path(root).absolute()) if root else "synthetic"


def _evaluate(config: RunConfig, output: Path, record: RecordedEvaluation, sharing: Sharing) -> Result:
    times = StageTimes()
    if config.model.checkpoint is None:
        log.warning(
            "model.checkpoint is not set: random weights, so sizes and times mean something, EER does not"
        )
    cache = open_cache(config.cache)
    with times.stage("model"):
        model = sharing.model(config.model, cache)
    mask = open_mask(config, model.network)
    record.mask_known(mask)
    with times.stage("features"):
        evaluator = sharing.evaluator(config, cache)
    return evaluator.evaluate(mask, output, record, times)


def _options(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Which option was chosen of each group of the configuration."""
    return {group.name: choices[group.name] for group in fields(RunConfig) if group.name in choices}
