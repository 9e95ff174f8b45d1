"""The outcome of one run, as ``result.json`` holds it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from speakerquant import schema_versions
from speakerquant.files import atomic_path
from speakerquant.statistics.metric import Direction, Figure, described, figures_of

RESULT_FILE, SCORES_FILE, LABELS_FILE = "result.json", "scores.npy", "labels.npy"
RANGES_FILE = "calibration.safetensors"
MASK_PREFIX = "mask."
"""Before the name of a unit, in configurations and parameters."""

_SECONDS = "seconds"
_OTHER_MIN_DCFS = "other_min_dcfs"
_LESS, _MORE = Direction.minimize, Direction.maximize


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured of one mask: error rates in percent, sizes in bytes, times in seconds or as named.

    Attributes:
        schema_version: Version of these keys (:data:`speakerquant.schema_versions.RESULT`).
        mask: Unit to precision.
        eer: Equal error rate of the engine.
        min_dcf: Normalised minimum detection cost of the engine.
        other_min_dcfs: The same at further priors, by the names of their metrics.
        baseline_eer: EER of the baseline: the FP32 engine of the same model on the same list.
        delta_eer: ``eer - baseline_eer``.
        delta_min_dcf: ``min_dcf`` less that of the baseline.
        eer_low: Lower end of the EER's 95 % confidence interval (:mod:`speakerquant.statistics.uncertainty`).
            So are the other numbers that end in ``_low`` and ``_high`` the ends of intervals.
        delta_eer_p: How probable so large a difference is where there is none, two-sided.
        tied_with_baseline: Whether the interval of ``delta_eer`` holds zero.
        draws: Name of the cache's entry with the rates on every draw of the speakers, by which masks are
            compared with each other (:func:`speakerquant.statistics.comparison.is_tie`).
        embeddings: Name of the cache's entry with the embeddings of the list's recordings.
        engine_size_bytes: Size of the serialized engine.
        size_ratio: Size of the engine over that of the baseline.
        scoring: Normalisation of the scores.
        trial_list: ``test`` or ``development``, whichever was scored.
        num_trials: Trials scored.
        num_recordings: Recordings embedded.
        engine: Backend that built the engine.
        executed: Whether the engine ran; one for a device that is not here is built and weighed only.
        scores_from: Backend that computed the embeddings: ``engine``, or if that was not executed another
            one, on the very network that the engine was built from.
        weight_bits: Most bits of integer weights that the device computes exactly.
        latency_ms_p50: Median time of one request with one recording of 3 s, in milliseconds; none if it was
            not measured, or the engine not executed.
        latency_ms_p95: 95th percentile of the same.
        real_time_factor: Seconds of embedding per second of speech, with as many requests in flight as the
            engine has room for; none if it was not executed.
        fidelity: Smallest cosine between the engine's and the simulated network's embeddings; none if it was
            not executed.
        seconds: Time by stage. What came from the cache took next to none, but for embeddings, whose time is
            that of the runs that made them.
    """

    mask: Mapping[str, str]
    eer: float = described(Figure("EER", "%", _LESS))
    eer_low: float = described(Figure("EER, lower end", "%", _LESS))
    eer_high: float = described(Figure("EER, upper end", "%", _LESS))
    min_dcf: float = described(Figure("minDCF", "", _LESS))
    min_dcf_low: float = described(Figure("minDCF, lower end", "", _LESS))
    min_dcf_high: float = described(Figure("minDCF, upper end", "", _LESS))
    other_min_dcfs: Mapping[str, float]
    baseline_eer: float = described(Figure("baseline EER", "%", _LESS))
    delta_eer: float = described(
        Figure("ΔEER", "%", _LESS, "+.3f", interval=("delta_eer_low", "delta_eer_high"))
    )
    delta_eer_low: float = described(Figure("ΔEER, lower end", "%", _LESS, "+.3f"))
    delta_eer_high: float = described(Figure("ΔEER, upper end", "%", _LESS, "+.3f"))
    delta_eer_p: float = described(Figure("p of ΔEER", "", _MORE))
    tied_with_baseline: bool
    draws: str
    embeddings: str
    delta_min_dcf: float = described(
        Figure("ΔminDCF", "", _LESS, "+.3f", interval=("delta_min_dcf_low", "delta_min_dcf_high"))
    )
    delta_min_dcf_low: float = described(Figure("ΔminDCF, lower end", "", _LESS, "+.3f"))
    delta_min_dcf_high: float = described(Figure("ΔminDCF, upper end", "", _LESS, "+.3f"))
    engine_size_bytes: int = described(Figure("size", "MB", _LESS, scale=1e-6))
    size_ratio: float = described(Figure("size ratio", "", _LESS))
    scoring: str
    trial_list: str
    num_trials: int
    num_recordings: int
    engine: str
    executed: bool
    scores_from: str
    weight_bits: int
    fidelity: float | None = described(Figure("fidelity", "", _MORE, ".5f"))
    latency_ms_p50: float | None = described(Figure("latency", "ms", _LESS, ".1f", is_time=True))
    latency_ms_p95: float | None = described(
        Figure("95 % of latencies below", "ms", _LESS, ".1f", is_time=True)
    )
    real_time_factor: float | None = described(Figure("real-time factor", "", _LESS, ".5f", is_time=True))
    seconds: Mapping[str, float]
    schema_version: int = schema_versions.RESULT

    def to_dict(self) -> dict[str, Any]:
        """As ``result.json`` holds it."""
        return asdict(self)

    def metrics(self) -> dict[str, float]:
        """Every number by name; stage times as ``seconds.<stage>``, further detection costs as they are."""
        fields: dict[str, Any] = asdict(self)
        others: dict[str, float] = fields.pop(_OTHER_MIN_DCFS)
        seconds = {f"{_SECONDS}.{stage}": value for stage, value in fields.pop(_SECONDS).items()}
        numbers = {name: value for name, value in fields.items() if isinstance(value, int | float)}
        return numbers | others | seconds

    def as_run(self) -> "MaskRun":
        """As tables and pictures show it."""
        scores_from = None if self.executed else self.scores_from
        return MaskRun(dict(self.mask), self.metrics(), failure=None, scores_from=scores_from)

    def save(self, folder: Path) -> None:
        """Write ``result.json`` into the folder."""
        with atomic_path(folder / RESULT_FILE) as part:
            part.write_text(json.dumps(self.to_dict(), indent=2) + "\n")


FIGURES: Mapping[str, Figure] = figures_of(Result)
"""The numbers of a result that are compared, by name."""


def figure_of(name: str) -> Figure | None:
    """The description of a number by its name in :meth:`Result.metrics`; none of one that is not compared."""
    if name in FIGURES:
        return FIGURES[name]
    if name.startswith(f"{_SECONDS}."):
        stage = name.removeprefix(f"{_SECONDS}.")
        return Figure(stage, "s", _LESS, ".2f", is_time=True)
    if (metric := name.removeprefix(f"{_OTHER_MIN_DCFS}.")).startswith("min_dcf_"):
        prior = metric.removeprefix("min_dcf_")
        return replace(FIGURES["min_dcf"], heading=f"minDCF at {prior}")
    return None


@dataclass(frozen=True)
class MaskRun:
    """One recorded run as tables and pictures show it.

    Attributes:
        mask: Precision by unit; empty if the run failed before its mask was known.
        metrics: Its numbers (:meth:`Result.metrics`).
        failure: Why it failed; none if it finished.
        name: What it was recorded as.
        scores_from: Backend that computed its embeddings instead of the engine, which was built only; none if
            the engine ran.
        facts: What must be equal for runs to be compared, in words by name: checkpoint, lists, scoring.
        environment: Versions and devices by name.
        command: What measured it; empty if that is not known.
    """

    mask: dict[str, str]
    metrics: dict[str, float]
    failure: str | None
    name: str = ""
    scores_from: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
