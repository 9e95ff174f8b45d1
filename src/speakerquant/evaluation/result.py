"""The outcome of one run, as ``result.json`` holds it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speakerquant.cache import atomic_path

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Result:
    """Error rates in percent, sizes in bytes, times in seconds.

    Attributes:
        mask: Unit to precision.
        eer: Equal error rate of the engine.
        min_dcf: Normalised minimum detection cost of the engine.
        other_min_dcfs: The same at further priors, by the names of their metrics.
        baseline_eer: EER of the FP32 engine of the same model on the same list.
        delta_eer: ``eer - baseline_eer``.
        engine_size_bytes: Size of the serialized engine.
        size_ratio: Over the FP32 engine's size.
        scoring: Normalisation of the scores.
        trial_list: ``test`` or ``development``, whichever was scored.
        num_trials: Trials scored.
        num_recordings: Recordings embedded.
        engine: Backend that built and ran the engine.
        weight_bits: Bits of the INT8 layers' weights.
        latency_ms_p50: Median time of one request with one recording of 3 s, in milliseconds.
        latency_ms_p95: Of twenty such requests, one takes longer.
        real_time_factor: Seconds of embedding per second of speech, with as many requests in flight as the
            engine has room for.
        fidelity: Smallest cosine between the engine's and the fake-quantized network's embeddings.
        seconds: Time by stage. What came from the cache took next to none, but for embeddings, whose time is
            that of the runs that made them.
    """

    mask: Mapping[str, str]
    eer: float
    min_dcf: float
    other_min_dcfs: Mapping[str, float]
    baseline_eer: float
    delta_eer: float
    engine_size_bytes: int
    size_ratio: float
    scoring: str
    trial_list: str
    num_trials: int
    num_recordings: int
    engine: str
    weight_bits: int
    fidelity: float
    latency_ms_p50: float
    latency_ms_p95: float
    real_time_factor: float
    seconds: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As ``result.json`` holds it."""
        return asdict(self)

    def metrics(self) -> dict[str, float]:
        """Every number by name; stage times as ``seconds.<stage>``, further detection costs as they are."""
        fields: dict[str, Any] = asdict(self)
        others: dict[str, float] = fields.pop("other_min_dcfs")
        seconds = {f"seconds.{stage}": value for stage, value in fields.pop("seconds").items()}
        numbers = {name: value for name, value in fields.items() if isinstance(value, int | float)}
        return numbers | others | seconds

    def save(self, folder: Path) -> None:
        """Write ``result.json`` into the folder."""
        with atomic_path(folder / RESULT_FILE) as part:
            part.write_text(json.dumps(self.to_dict(), indent=2) + "\n")


@dataclass(frozen=True)
class MaskRun:
    """One run as tables and plots show it: its figures (:meth:`Result.metrics`), or why it failed."""

    mask: dict[str, str]
    metrics: dict[str, float]
    failure: str | None
