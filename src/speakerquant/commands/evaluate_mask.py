"""``speakerquant``: one mask in, one result out."""

import json
import logging
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from speakerquant.commands.console_script import config_folder, hydra_job, run_command
from speakerquant.commands.multirun import parent_run_id, recorded_multirun
from speakerquant.configuration.opening import (
    Inputs,
    digests_of,
    mask_words,
    open_baseline,
    open_bootstrap,
    open_cache,
    open_evaluation,
    open_inputs,
    open_mask,
    open_model,
    open_ranges,
    open_rounding,
)
from speakerquant.configuration.schema import RunConfig, flat, register_schemas, typed
from speakerquant.credentials import hide_credentials
from speakerquant.engine.provenance import engine_path, provenance_path
from speakerquant.files import atomic_path
from speakerquant.measuring.assembly import assemble_result
from speakerquant.measuring.build import ONNX_FILE
from speakerquant.measuring.result import (
    LABELS_FILE,
    MASK_PREFIX,
    RANGES_FILE,
    RESULT_FILE,
    SCORES_FILE,
    Result,
)
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.report.mask_words import mask_name
from speakerquant.report.multirun_report import print_runs
from speakerquant.report.run_words import run_words
from speakerquant.search.application import TRIAL_FILE
from speakerquant.statistics.comparison import compare
from speakerquant.tracking.artifacts import keep_once
from speakerquant.tracking.client import connect
from speakerquant.tracking.runs import COMMAND_TAG, ENVIRONMENT_TAG, DataSet, TrackedRun, tracked_run
from speakerquant.tracking.study import trial_tags

log = logging.getLogger(__name__)

ARTIFACTS = (RESULT_FILE, ONNX_FILE, RANGES_FILE, SCORES_FILE, LABELS_FILE, ".hydra/config.yaml")


def evaluate(
    config: RunConfig,
    params: Mapping[str, object],
    output: Path,
    command: str = "",
    parent_id: str | None = None,
) -> Result:
    """Evaluate ``config.mask`` and leave ``result.json``, engine, ONNX and scores in ``output``.

    Args:
        config: The composed configuration.
        params: The same by dotted names, for MLflow.
        output: An existing folder.
        command: What the user typed, for MLflow.
        parent_id: MLflow run of the multirun that this is part of.

    Raises:
        UserError: see the modules that it calls; the MLflow run is closed as FAILED with the message.
    """
    # Amid a multirun the server has answered before.
    tracking = connect(config.tracking.uri, config.tracking.experiment, patient=parent_id is not None)
    prefix, tags = "", {}
    if (output / TRIAL_FILE).exists():
        trial = json.loads((output / TRIAL_FILE).read_text())
        prefix, tags = f"trial {trial['trial']}: ", trial_tags(trial["study"], trial["trial"])
    name = prefix + mask_words(config.mask)  # until the network is open
    with tracked_run(tracking, name, parent_id, tags) as tracked:
        # The mask is recorded as it applies to the network, when that is known: patterns are no parameters.
        tracked.log_params({key: value for key, value in params.items() if not key.startswith(MASK_PREFIX)})
        tracked.set_tags({COMMAND_TAG: hide_credentials(command)})
        result = _evaluate(config, output, tracked, prefix)
        result.save(output)
        tracked.log_params({"scores_from": result.scores_from})
        tracked.describe(run_words(result.as_run()))
        tracked.log_metrics(result.metrics())
        engine = engine_path(output, result.engine)
        for path in (*(output / name for name in ARTIFACTS), engine, provenance_path(engine)):
            tracked.log_artifact(path)
        if parent_id:  # a multirun has many engines; whoever runs a single mask wants its engine here
            keep_once(tracked, config.tracking.experiment, [output / ONNX_FILE, engine])
    return result


def _evaluate(config: RunConfig, output: Path, tracked: TrackedRun, prefix: str) -> Result:
    times = StageTimes()
    cache = open_cache(config.cache)
    if config.model.checkpoint is None:
        log.warning(
            "model.checkpoint is not set: random weights, so sizes and times mean something, EER does not"
        )
    with times.stage("model"):
        model = open_model(config.model)
    mask = open_mask(config, model.network)
    tracked.rename(prefix + mask_name(mask.names))
    tracked.log_params({f"{MASK_PREFIX}{unit}": precision for unit, precision in mask.names.items()})
    with times.stage("features"):
        inputs = open_inputs(config, model, cache)
    bootstrap = open_bootstrap(inputs)
    with times.stage("calibration"):
        table = open_ranges(config.calibration, inputs, cache)
        table.save(output / RANGES_FILE)
    tracked.log_params(digests_of(inputs))
    environment = {"speakerquant": version("speakerquant"), **inputs.builder.environment}
    tracked.set_tags({f"{ENVIRONMENT_TAG}{name}": value for name, value in environment.items()})
    tracked.log_data_set(_tested_on(config, inputs))
    with times.stage("graph"):
        rounding = open_rounding(config.rounding, inputs, cache)
        evaluation = open_evaluation(config.engine, inputs, table, cache, rounding)
    [measured] = evaluation.evaluate([mask], [output])
    for name, array in {
        SCORES_FILE: measured.scored.scores.astype(np.float32),
        LABELS_FILE: inputs.data.trials.labels,
    }.items():
        with atomic_path(output / name) as part:
            np.save(part, array)
    with times.stage("baseline"):
        baseline = open_baseline(inputs, evaluation, measured if mask.is_baseline else None)
    with times.stage("intervals"):
        p_target = inputs.protocol.p_targets[0]
        comparison = compare(measured.scored.scores, baseline.scores, bootstrap, p_target, cache)
    return assemble_result(measured, baseline, comparison, evaluation, inputs.trial_list.name, times)


def _tested_on(config: RunConfig, inputs: Inputs) -> DataSet:
    data, source = inputs.data, config.data.root or "synthetic"
    counts = {
        "trials": len(data.trials),
        "target trials": int(data.trials.labels.sum()),
        "recordings": len(data.recordings),
        "speakers": len(np.unique(data.speakers)),
    }
    name = f"{Path(source).name} {inputs.trial_list.name}"
    return DataSet(name, data.trials_digest, source, "testing", counts)


def _application(config: DictConfig) -> dict[str, Any]:
    hydra_config = HydraConfig.get()
    output = Path(hydra_config.runtime.output_dir)
    with hydra_job():
        command = shlex.join(["speakerquant", *hydra_config.overrides.task])
        result = evaluate(typed(config, RunConfig), flat(config), output, command, parent_run_id())
    if hydra_config.mode is RunMode.RUN:
        print_runs([result.as_run()], title=str(output))
    return result.to_dict()


def _command() -> None:
    with recorded_multirun():
        hydra.main(config_path=config_folder(), config_name="run", version_base="1.3")(_application)()


def main() -> None:
    """Entry point of ``speakerquant``."""
    register_schemas()
    run_command(_command)


if __name__ == "__main__":
    main()
