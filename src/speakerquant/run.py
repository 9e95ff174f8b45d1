"""``speakerquant``: one mask in, one result out."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from speakerquant.cache import Cache, atomic_path, digest
from speakerquant.config import RunConfig, flat, register_schemas, typed
from speakerquant.engine.provenance import provenance_path
from speakerquant.entry_point import config_folder, fail, run_command, wants_traceback
from speakerquant.errors import UserError
from speakerquant.evaluation.mask_evaluation import StageTimes
from speakerquant.evaluation.protocol import MIN_DCF
from speakerquant.evaluation.result import RESULT_FILE, MaskRun, Result
from speakerquant.inputs import calibrated, load_model, mask_evaluator, open_inputs
from speakerquant.mask_search import MaskSearch
from speakerquant.model.units import block_units
from speakerquant.quantization.mask import Mask
from speakerquant.reporting.plot import plot_runs
from speakerquant.reporting.table import mask_name, print_table
from speakerquant.search.application import TRIAL_FILE
from speakerquant.tracking.client import connect
from speakerquant.tracking.history import fail_running, mask_runs
from speakerquant.tracking.runs import TrackedRun, tracked_run
from speakerquant.tracking.study import trial_tags
from speakerquant.tracking.sweep import ParentRun, parent_run_id

# Raise it when the code comes to measure other numbers from the same inputs.
_BASELINE_FORMAT = 2

ARTIFACTS = (RESULT_FILE, "model.onnx", "calibration.safetensors", "scores.npy", ".hydra/config.yaml")


def run(
    config: RunConfig, params: Mapping[str, object], output: Path, parent_id: str | None = None
) -> Result:
    """Evaluate ``config.mask`` and leave ``result.json``, engine, ONNX and scores in ``output``.

    Args:
        config: The composed configuration.
        params: The same by dotted names, for MLflow.
        output: An existing folder.
        parent_id: MLflow run of the multirun that this is part of.

    Raises:
        UserError: see the modules that it calls; the MLflow run is closed as FAILED with the message.
    """
    tracking = connect(config.tracking.uri, config.tracking.experiment)
    name, tags = mask_name(config.mask), {}
    if (output / TRIAL_FILE).exists():
        trial = json.loads((output / TRIAL_FILE).read_text())
        name, tags = f"trial {trial['trial']}: {name}", trial_tags(trial["study"], trial["trial"])
    with tracked_run(tracking, name, parent_id, tags) as tracked:
        tracked.log_params(params)
        result = _evaluate(config, output, tracked)
        tracked.log_metrics(result.metrics())
        result.save(output)
        engine = output / f"engine.{result.engine}"
        for path in (*(output / name for name in ARTIFACTS), engine, provenance_path(engine)):
            tracked.log_artifact(path)
    return result


def _evaluate(config: RunConfig, output: Path, tracked: TrackedRun) -> Result:
    times = StageTimes()
    cache = Cache(Path(config.cache.root) if config.cache.root else None)
    model = load_model(config.model)
    units = block_units(model.network)
    mask = Mask(units, config.mask)
    with times.stage("features"):
        inputs = open_inputs(config, model, cache)
    with times.stage("calibration"):
        table = calibrated(config.calibration, inputs, cache)
        table.save(output / "calibration.safetensors")
    evaluator = mask_evaluator(config.engine, inputs, table, cache)
    tracked.log_params(
        {
            "digest.checkpoint": inputs.model.digest,
            "digest.trials": inputs.data.trials_digest,
            "digest.recordings": inputs.features.digest,
            "digest.cohort": inputs.protocol.cohort_digest,
        }
    )
    builder = inputs.builder
    figures = evaluator.evaluate(mask, builder, output, times)
    with atomic_path(output / "scores.npy") as part:
        np.save(part, figures.scores.astype(np.float32))

    is_baseline = not mask.quantized_layers and builder.fp32 is builder

    def measure_baseline(path: Path) -> None:
        measured = figures
        if not is_baseline:
            with tempfile.TemporaryDirectory() as folder, times.stage("baseline"):
                measured = evaluator.evaluate(Mask(units, {}), builder.fp32, Path(folder), StageTimes())
        path.write_text(json.dumps({"eer": measured.eer, "size_bytes": measured.size_bytes}))

    backend = (builder.name, dict(builder.environment))
    digests = (inputs.model.digest, inputs.features.digest, inputs.data.trials_digest)
    key = digest(_BASELINE_FORMAT, *digests, inputs.protocol.identity, backend)
    baseline = json.loads(cache.get("baselines", key, measure_baseline, suffix=".json").read_text())
    if is_baseline:  # from build to build an engine's size differs by some hundred bytes
        baseline["size_bytes"] = figures.size_bytes
    return Result(
        mask=dict(mask),
        eer=figures.eer,
        min_dcf=figures.min_dcfs[MIN_DCF],
        other_min_dcfs={name: value for name, value in figures.min_dcfs.items() if name != MIN_DCF},
        baseline_eer=baseline["eer"],
        delta_eer=figures.eer - baseline["eer"],
        engine_size_bytes=figures.size_bytes,
        size_ratio=figures.size_bytes / baseline["size_bytes"],
        scoring=inputs.protocol.norm.value,
        trial_list=inputs.trial_list.name,
        num_trials=len(inputs.data.trials),
        num_recordings=len(inputs.data.recordings),
        engine=builder.name,
        weight_bits=inputs.weight_bits,
        fidelity=figures.fidelity,
        latency_ms_p50=figures.latency.ms_p50,
        latency_ms_p95=figures.latency.ms_p95,
        real_time_factor=figures.real_time_factor,
        seconds=times.seconds,
    )


def _application(config: DictConfig) -> dict[str, Any]:
    hydra_config = HydraConfig.get()
    output = Path(hydra_config.runtime.output_dir)
    try:
        result = run(typed(config, RunConfig), flat(config), output, parent_run_id())
    except UserError as error:
        # In a multirun Hydra must see the failure; a single run ends here, before Hydra adds its own lines.
        if hydra_config.mode is RunMode.MULTIRUN or wants_traceback():
            raise
        fail(error)
    if hydra_config.mode is RunMode.RUN:
        print_table([MaskRun(dict(result.mask), result.metrics(), failure=None)], title=str(output))
    return result.to_dict()


_application.search = MaskSearch()  # type: ignore[attr-defined]


def _command() -> None:
    succeeded = False
    try:
        hydra.main(config_path=config_folder(), config_name="run", version_base="1.3")(_application)()
        succeeded = True
    finally:
        if ParentRun.run is not None:
            _close_multirun(ParentRun.run, ParentRun.folder, succeeded)


def _close_multirun(parent: TrackedRun, folder: Path, succeeded: bool) -> None:
    """Close the parent, FAILED if any job did, then show and log what the jobs measured."""
    fail_running(parent.tracking, parent.run_id)
    runs = mask_runs(parent.tracking, parent.run_id)
    failed = sum(run.failure is not None for run in runs)
    if succeeded and not failed:
        parent.finish()
    else:
        parent.fail(f"{failed} of {len(runs)} runs failed" if failed else "the multirun was broken off")
    print_table(runs, title=str(folder))
    if failed < len(runs):
        picture = folder / "size_vs_eer.png"
        plot_runs(runs, picture)
        parent.log_artifact(picture)


def main() -> None:
    """Entry point of ``speakerquant``."""
    register_schemas()
    run_command(_command)


if __name__ == "__main__":
    main()
