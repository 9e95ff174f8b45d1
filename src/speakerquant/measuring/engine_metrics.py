"""The metrics of an engine that its scores do not tell."""

from collections.abc import Callable
from dataclasses import dataclass

from speakerquant.statistics.metric import Direction, Metric


@dataclass(frozen=True)
class Latency:
    """Median and 95th percentile of the time of a request, in milliseconds."""

    ms_p50: float
    ms_p95: float


@dataclass(frozen=True)
class MeasuredEngine:
    """What was measured of an engine beside its scores.

    Attributes:
        size_bytes: Size of the serialized engine.
        sha256: Of the serialized engine.
        fidelity: Smallest cosine between the engine's and the simulation's embeddings; none if the engine was
            built but does not run on this machine.
        latency: Times of a single request; none if they were not measured.
        real_time_factor: Seconds of embedding per second of speech; none if the engine does not run here.
    """

    size_bytes: int
    sha256: str
    fidelity: float | None
    latency: Latency | None
    real_time_factor: float | None


@dataclass(frozen=True, kw_only=True)
class EngineMetric(Metric):
    """A number that an engine has.

    Attributes:
        compute: The value of an engine beside the baseline's size in bytes; none if it was not measured.
    """

    compute: Callable[[MeasuredEngine, int], float | None]


ENGINE_SIZE = EngineMetric(
    "engine_size_bytes",
    "size",
    "MB",
    Direction.minimize,
    scale=1e-6,
    compute=lambda engine, _: engine.size_bytes,
)
SIZE_RATIO = EngineMetric(
    "size_ratio",
    "size ratio",
    "",
    Direction.minimize,
    compute=lambda engine, baseline: engine.size_bytes / baseline,
)
FIDELITY = EngineMetric(
    "fidelity", "fidelity", "", Direction.maximize, ".5f", compute=lambda engine, _: engine.fidelity
)
LATENCY = EngineMetric(
    "latency_ms_p50",
    "latency",
    "ms",
    Direction.minimize,
    ".1f",
    is_time=True,
    compute=lambda engine, _: engine.latency.ms_p50 if engine.latency else None,
)
LATENCY_P95 = EngineMetric(
    "latency_ms_p95",
    "95 % of latencies below",
    "ms",
    Direction.minimize,
    ".1f",
    is_time=True,
    compute=lambda engine, _: engine.latency.ms_p95 if engine.latency else None,
)
REAL_TIME_FACTOR = EngineMetric(
    "real_time_factor",
    "real-time factor",
    "",
    Direction.minimize,
    ".5f",
    is_time=True,
    compute=lambda engine, _: engine.real_time_factor,
)

ENGINE_METRICS = (ENGINE_SIZE, SIZE_RATIO, FIDELITY, LATENCY, LATENCY_P95, REAL_TIME_FACTOR)
"""In the order of results."""


def engine_numbers(engine: MeasuredEngine, baseline_size_bytes: int) -> dict[str, float | None]:
    """Every metric's value by name, beside a baseline of this size in bytes."""
    return {metric.name: metric.compute(engine, baseline_size_bytes) for metric in ENGINE_METRICS}
