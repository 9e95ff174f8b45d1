"""Puts a result together from what was measured of a mask and of the baseline."""

from speakerquant.measuring.baseline import Baseline
from speakerquant.measuring.pipeline import Measurement, MeasurementPipeline
from speakerquant.measuring.protocol import MIN_DCF
from speakerquant.measuring.result import Result
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.statistics.comparison import Comparison


def assemble_result(
    measured: Measurement,
    baseline: Baseline,
    comparison: Comparison,
    pipeline: MeasurementPipeline,
    trial_list: str,
    before: StageTimes,
) -> Result:
    """The result of one mask.

    Args:
        measured: What was measured of it.
        baseline: What it is compared with.
        comparison: How sure its error rates are, and their differences from the baseline's.
        pipeline: What measured both.
        trial_list: Name of the list that was scored.
        before: Seconds of the stages before the mask was measured, and after.
    """
    data, scored, latency = pipeline.data, measured.scored, measured.latency
    min_dcfs = dict(scored.min_dcfs)
    return Result(
        mask=measured.mask.names,
        eer=scored.eer,
        min_dcf=min_dcfs.pop(MIN_DCF),
        other_min_dcfs=min_dcfs,
        baseline_eer=baseline.eer,
        delta_eer=scored.eer - baseline.eer,
        eer_low=comparison.eer.low,
        eer_high=comparison.eer.high,
        min_dcf_low=comparison.min_dcf.low,
        min_dcf_high=comparison.min_dcf.high,
        delta_eer_low=comparison.delta_eer.low,
        delta_eer_high=comparison.delta_eer.high,
        delta_eer_p=comparison.delta_eer.p,
        tied_with_baseline=comparison.delta_eer.is_tie,
        draws=comparison.draws,
        embeddings=measured.embedded.name,
        delta_min_dcf=comparison.delta_min_dcf.value,
        delta_min_dcf_low=comparison.delta_min_dcf.low,
        delta_min_dcf_high=comparison.delta_min_dcf.high,
        engine_size_bytes=measured.size_bytes,
        size_ratio=measured.size_bytes / baseline.size_bytes,
        scoring=data.protocol.norm.value,
        trial_list=trial_list,
        num_trials=len(data.trials),
        num_recordings=len(data.trials.recordings),
        engine=pipeline.building.builder.name,
        executed=pipeline.building.executed,
        scores_from=pipeline.building.runner.name,
        weight_bits=pipeline.building.max_weight_bits,
        fidelity=measured.fidelity,
        latency_ms_p50=latency.ms_p50 if latency else None,
        latency_ms_p95=latency.ms_p95 if latency else None,
        real_time_factor=measured.real_time_factor,
        seconds={**before.seconds, **measured.times.seconds},
    )
