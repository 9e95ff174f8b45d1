"""``speakerquant``: one mask in, one result out."""

import json
import logging
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from speakerquant.audio.features import CachedFeatures, extract_features
from speakerquant.cache import Cache, atomic_path, digest
from speakerquant.config import ModelConfig, RunConfig, flat, register_schemas, typed
from speakerquant.corpus.evaluation_data import (
    EvaluationData,
    open_evaluation_data,
    open_synthetic_evaluation_data,
)
from speakerquant.corpus.recordings import speaker_from_mapping, speaker_from_path
from speakerquant.engine.registry import engine_builder
from speakerquant.entry_point import config_folder, fail, run_command, wants_traceback
from speakerquant.errors import UserError
from speakerquant.evaluation.mask_evaluation import MaskEvaluator, StageTimes
from speakerquant.evaluation.result import RESULT_FILE, MaskRun, Result
from speakerquant.model.checkpoints import SpeakerModel, load_checkpoint, random_model, shipped_checkpoint
from speakerquant.model.units import block_units
from speakerquant.progress import track
from speakerquant.quantization.calibration import calibrate, check_method
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.reporting.plot import plot_runs
from speakerquant.reporting.table import mask_name, print_table
from speakerquant.tracking.client import connect
from speakerquant.tracking.history import fail_running, mask_runs
from speakerquant.tracking.runs import TrackedRun, tracked_run
from speakerquant.tracking.sweep import ParentRun, parent_run_id

log = logging.getLogger(__name__)

# Raise one when the code comes to measure other numbers from the same inputs.
_RANGES_FORMAT = 1
_BASELINE_FORMAT = 1

ARTIFACTS = (RESULT_FILE, "model.onnx", "calibration.safetensors", "scores.npy", ".hydra/config.yaml")


def run(
    config: RunConfig, params: Mapping[str, object], output: Path, parent_id: str | None = None
) -> MaskRun:
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
    with tracked_run(tracking, mask_name(config.mask), parent_id) as tracked:
        tracked.log_params(params)
        result = _evaluate(config, output, tracked)
        tracked.log_metrics(result.metrics())
        result.save(output)
        for name in (*ARTIFACTS, f"engine.{result.engine}"):
            tracked.log_artifact(output / name)
    return MaskRun(tracked.run_id, dict(result.mask), result.metrics(), failure=None)


def _evaluate(config: RunConfig, output: Path, tracked: TrackedRun) -> Result:
    times = StageTimes()
    cache = Cache(Path(config.cache.root) if config.cache.root else None)
    model = _load_model(config.model)
    units = block_units(model.network)
    mask = Mask(units, config.mask)
    builder = engine_builder(config.engine.name)
    weight_bits = builder.weight_bits(config.engine.weight_bits)
    check_method(config.calibration.method, config.calibration.percentile)
    data = _open_data(config, cache)
    with times.stage("features"):
        test = extract_features(data.recordings, model.front_end, cache)
        calibration = extract_features(data.calibration, model.front_end, cache)
    with times.stage("calibration"):
        table = _calibrated(config, model, calibration, cache)
        table.save(output / "calibration.safetensors")
    evaluator = MaskEvaluator(
        model.network,
        table,
        builder,
        weight_bits=weight_bits,
        features=test.features,
        trials=data.trials,
        fidelity_features=calibration.features[: config.engine.fidelity_recordings],
        min_fidelity=config.engine.min_fidelity,
    )
    tracked.log_params(
        {
            "digest.checkpoint": model.digest,
            "digest.trials": data.trials_digest,
            "digest.recordings": test.digest,
        }
    )
    figures = evaluator.evaluate(mask, output, times)
    with atomic_path(output / "scores.npy") as part:
        np.save(part, figures.scores.astype(np.float32))

    def measure_baseline(path: Path) -> None:
        baseline = figures
        if mask.quantized_layers:
            with tempfile.TemporaryDirectory() as folder, times.stage("baseline"):
                baseline = evaluator.evaluate(Mask(units, {}), Path(folder), StageTimes())
        path.write_text(json.dumps({"eer": baseline.eer, "size_bytes": baseline.size_bytes}))

    backend = (builder.name, version(builder.name), builder.device)  # a backend is named after its package
    key = digest(_BASELINE_FORMAT, model.digest, test.digest, data.trials_digest, backend)
    baseline = json.loads(cache.get("baselines", key, measure_baseline, suffix=".json").read_text())
    return Result(
        mask=dict(mask),
        eer=figures.eer,
        min_dcf=figures.min_dcf,
        baseline_eer=baseline["eer"],
        delta_eer=figures.eer - baseline["eer"],
        engine_size_bytes=figures.size_bytes,
        size_ratio=figures.size_bytes / baseline["size_bytes"],
        num_trials=len(data.trials),
        num_recordings=len(data.recordings),
        engine=builder.name,
        weight_bits=weight_bits,
        fidelity=figures.fidelity,
        seconds=times.seconds,
    )


def _load_model(config: ModelConfig) -> SpeakerModel:
    if config.checkpoint is not None:
        path = shipped_checkpoint() if config.checkpoint == "shipped" else Path(config.checkpoint)
        return load_checkpoint(path, config.architecture)
    if config.architecture is None or config.front_end is None:
        raise UserError(
            "model.checkpoint: no checkpoint and no architecture; set one, such as model=ecapa_c1024"
        )
    log.warning(
        "model.checkpoint is not set: random weights, so sizes and times mean something, EER does not"
    )
    return random_model(config.architecture, config.front_end, config.seed)


def _open_data(config: RunConfig, cache: Cache) -> EvaluationData:
    data, calibration = config.data, config.calibration
    if data.root is None:
        if data.trials or data.calibration_root or data.speakers:
            raise UserError(
                "data.root is not set, so the rest of data has no meaning; set it, with data=folder"
            )
        return open_synthetic_evaluation_data(
            data.seed, cache, num_calibration=calibration.num_recordings, calibration_seed=calibration.seed
        )
    if data.trials is None or data.calibration_root is None:
        raise UserError("data.root is set: set data.trials and data.calibration_root too")
    return open_evaluation_data(
        Path(data.root),
        Path(data.trials),
        Path(data.calibration_root),
        num_calibration=calibration.num_recordings,
        calibration_seed=calibration.seed,
        speaker_of=speaker_from_mapping(Path(data.speakers)) if data.speakers else speaker_from_path,
    )


def _calibrated(
    config: RunConfig, model: SpeakerModel, calibration: CachedFeatures, cache: Cache
) -> CalibrationTable:
    method, percentile = config.calibration.method, config.calibration.percentile

    def make(path: Path) -> None:
        recordings = track(calibration.features, "calibration", total=len(calibration.features))
        calibrate(model.network, map(torch.from_numpy, recordings), method, percentile).save(path)

    key = digest(_RANGES_FORMAT, model.digest, calibration.digest, method, percentile)
    return CalibrationTable.load(cache.get("ranges", key, make, suffix=".safetensors"))


@hydra.main(config_path=config_folder(), config_name="run", version_base="1.3")
def _application(config: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    output = Path(hydra_config.runtime.output_dir)
    try:
        mask_run = run(typed(config, RunConfig), flat(config), output, parent_run_id())
    except UserError as error:
        # In a multirun Hydra must see the failure; a single run ends here, before Hydra adds its own lines.
        if hydra_config.mode is RunMode.MULTIRUN or wants_traceback():
            raise
        fail(error)
    if hydra_config.mode is RunMode.RUN:
        print_table([mask_run], title=str(output))


def _command() -> None:
    succeeded = False
    try:
        _application()
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
