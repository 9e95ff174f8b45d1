"""Puts a result together from what was measured of a mask and of the baseline."""

from collections.abc import Mapping

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.layers import unreached_layers, unreached_share
from speakerquant.architectures.registry import architecture_of_network
from speakerquant.audio.features import CachedFeatures
from speakerquant.measuring.baseline import Baseline
from speakerquant.measuring.engine_metrics import ENGINE_SIZE, SIZE_RATIO, engine_numbers
from speakerquant.measuring.pipeline import Measurement, MeasurementPipeline
from speakerquant.measuring.result import Published, Result
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.measuring.swapping import Decisions
from speakerquant.quantization.precision import BASELINE, INT8
from speakerquant.statistics.comparison import Comparison
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.group_metrics import worst_group


def assemble_result(
    measured: Measurement,
    baseline: Baseline,
    comparison: Comparison,
    decisions: Decisions,
    swap: Mapping[str, float],
    groups: Mapping[str, Mapping[str, float]],
    pipeline: MeasurementPipeline,
    trial_list: str,
    calibration: CachedFeatures,
    before: StageTimes,
) -> Result:
    """The result of one mask.

    Args:
        measured: What was measured of it.
        baseline: What it is compared with.
        comparison: Its error metrics beside those of the baseline.
        decisions: Of the baseline.
        swap: What changes for a product that runs the baseline, by name.
        groups: Error rates beside the baseline's by name, of groups of trials by name.
        pipeline: What measured both.
        trial_list: Name of the list that was scored.
        calibration: Features of the recordings that ranges were measured on.
        before: Seconds of the stages before the mask was measured, and after.
    """
    data = pipeline.data
    worst, worst_losses = worst_group(groups) if groups else (None, {})
    network = pipeline.prepared.model.network
    architecture = architecture_of_network(network)
    return Result(
        mask=measured.mask.names,
        numbers={**comparison.numbers, **engine_numbers(measured, baseline.size_bytes), **worst_losses},
        tied_with_baseline=comparison.is_tie,
        draws=comparison.draws,
        embeddings=measured.embedded.name,
        scoring=data.protocol.norm.value,
        trial_list=trial_list,
        num_trials=len(data.trials),
        num_recordings=len(data.trials.recordings),
        engine=pipeline.building.builder.name,
        engine_sha256=measured.sha256,
        calibration_recordings=len(calibration.recordings),
        calibration_seconds=calibration.seconds,
        executed=pipeline.building.executed,
        scores_from=pipeline.building.runner.name,
        weight_bits=pipeline.prepared.max_weight_bits,
        unreached={name: layer.kind for name, layer in unreached_layers(network).items()},
        unreached_share=unreached_share(network),
        widened=pipeline.building.builder.widened(measured.mask, pipeline.building.layers),
        swap=swap,
        thresholds={point.name: point.threshold for point in decisions.points},
        thresholds_from=decisions.trial_list,
        score_calibration=decisions.calibration,
        groups=groups,
        worst_group=worst,
        published=published_of(architecture, measured.mask.names),
        seconds={**before.seconds, **measured.times.seconds},
    )


def published_of(architecture: Architecture, mask: Mapping[str, str]) -> Published | None:
    """What was published of a mask (name of the precision by unit), if it was."""
    results = architecture.published
    if results is None or not {BASELINE.name, INT8.name}.issuperset(mask.values()):
        return None
    units = frozenset(unit for unit, precision in mask.items() if precision == INT8.name)
    result = results.by_int8_units.get(units)
    if result is None:
        return None
    numbers = {
        EER: result.eer,
        EER.delta: results.delta_eer(result),
        ENGINE_SIZE: result.size_mb * 1e6,
        SIZE_RATIO: results.size_ratio(result),
    }
    return Published(results.label, results.source, {metric.name: value for metric, value in numbers.items()})
