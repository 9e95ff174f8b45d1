"""The outcome of one run, as ``result.json`` holds it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from speakerquant import schema_versions
from speakerquant.files import atomic_path
from speakerquant.measuring.engine_metrics import ENGINE_METRICS
from speakerquant.quantization.precision import BASELINE
from speakerquant.statistics.error_metrics import error_number
from speakerquant.statistics.group_metrics import WORST, WORST_HIGH
from speakerquant.statistics.metric import Direction, Metric
from speakerquant.statistics.score_calibration import ScoreCalibration
from speakerquant.statistics.swap_metrics import swap_number

RESULT_FILE, SCORES_FILE, LABELS_FILE, DRAWS_FILE = "result.json", "scores.npy", "labels.npy", "draws.npz"
RANGES_FILE = "calibration.safetensors"
FOLDER, RUN_ID, DIGESTS = "folder", "run_id", "digests"
"""Names under which a job returns, beside its result, where its files are, what MLflow calls it, and what it
was measured on."""
MASK_PREFIX = "mask."
"""Before the name of a unit, in configurations and parameters."""
PUBLISHED_PREFIX = "published."
"""Before the name of a number that others have published, and of what is known of the publication."""

SWAP_PREFIX = "swap."
"""Before the name of a number of :mod:`speakerquant.statistics.swap_metrics`."""

GROUPS_PREFIX = "groups."
"""Before the name of a group and that of one of its numbers."""

UNFINISHED = "not finished yet"
"""Why a run that goes on has no numbers, in place of a failure."""

_SECONDS_PREFIX = "seconds."

Value = TypeVar("Value")


@dataclass(frozen=True)
class Published:
    """What others have published of a run's mask.

    Attributes:
        label: What tables and pictures call the publication, in a word.
        source: The publication.
        numbers: Its numbers by the names of ours.
    """

    label: str
    source: str
    numbers: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured of one mask: error rates in percent, sizes in bytes, times in seconds or as named.

    Attributes:
        schema_version: Version of these keys (:data:`speakerquant.schema_versions.RESULT`).
        mask: Unit to precision.
        numbers: By name. Of each error metric of the engine's scores
            :attr:`speakerquant.statistics.metric.ErrorMetric.numbers`: itself, that of the baseline (the FP32
            engine of the same model on the same list), their difference, intervals of 95 % confidence
            (:mod:`speakerquant.statistics.uncertainty`), and how probable so large a difference is where
            there is none. ``engine_size_bytes`` is the size of the serialized engine, ``size_ratio`` that
            over the baseline's. ``fidelity`` is the smallest cosine between the engine's and the simulated
            network's embeddings. ``latency_ms_p50`` and ``latency_ms_p95`` are median and 95th percentile of
            the time of one request with one recording of 3 s, in milliseconds, ``real_time_factor`` the
            seconds of embedding per second of speech, with as many requests in flight as the engine has room
            for. None stands for what was not measured: latencies if they were not asked for, and all but
            errors and sizes if the engine was not executed.
        tied_with_baseline: Whether the interval of ``delta_eer`` holds zero.
        draws: Name of the cache's entry with the metrics on every draw of the speakers, by which masks are
            compared with each other (:func:`speakerquant.statistics.comparison.is_tie`).
        embeddings: Name of the cache's entry with the embeddings of the list's recordings.
        scoring: Normalisation of the scores.
        trial_list: ``test`` or ``development``, whichever was scored.
        num_trials: Trials scored.
        num_recordings: Recordings embedded.
        engine: Backend that built the engine.
        engine_sha256: Of the engine, by which it is known as the one that was measured.
        calibration_recordings: Recordings that ranges were measured on; fewer than asked for, if there were
            no more.
        calibration_seconds: Their length together.
        executed: Whether the engine ran; one for a device that is not here is built and weighed only.
        scores_from: Backend that computed the embeddings: ``engine``, or if that was not executed another
            one, on the very network that the engine was built from.
        weight_bits: Most bits of integer weights that the device computes exactly.
        unreached: The layers that no mask reaches, which stay in FP32, with their kind, by module name.
        unreached_share: Their share of the network's weights.
        widened: The layers whose weights the engine stores in more bits than the mask says, with these bits.
        swap: What changes for a product that runs the baseline, by name: at its thresholds, with its
            voiceprints (``voiceprints_``), by its calibration (:mod:`speakerquant.statistics.swap_metrics`).
        thresholds: These thresholds by name.
        thresholds_from: The list that they are from: ``development`` where there is one, else the same list.
        score_calibration: What makes log-likelihood ratios of the baseline's scores, fitted on that list.
        groups: By name of a group of trials, such as ``sex f``, its error rates beside the baseline's by name
            (:mod:`speakerquant.measuring.groups`), and how sure that is among so many groups.
        worst_group: The group whose loss may be largest; none where there are no groups.
        published: What others have published of the mask, if they have.
        seconds: Time by stage. What came from the cache took next to none, but for embeddings, whose time is
            that of the runs that made them.
    """

    mask: Mapping[str, str]
    numbers: Mapping[str, float | None]
    tied_with_baseline: bool
    draws: str
    embeddings: str
    scoring: str
    trial_list: str
    num_trials: int
    num_recordings: int
    engine: str
    engine_sha256: str
    calibration_recordings: int
    calibration_seconds: float
    executed: bool
    scores_from: str
    weight_bits: int
    unreached: Mapping[str, str]
    unreached_share: float
    widened: Mapping[str, int]
    swap: Mapping[str, float]
    thresholds: Mapping[str, float]
    thresholds_from: str
    score_calibration: ScoreCalibration
    groups: Mapping[str, Mapping[str, float]]
    worst_group: str | None
    published: Published | None
    seconds: Mapping[str, float]
    schema_version: int = schema_versions.RESULT

    def to_dict(self) -> dict[str, Any]:
        """As ``result.json`` holds it."""
        facts = asdict(self)
        mask, numbers, published = (facts.pop(name) for name in ("mask", "numbers", "published"))
        if published:
            published |= published.pop("numbers")
        return {"mask": mask, **numbers, "published": published, **facts}

    def metrics(self) -> dict[str, float]:
        """Every number by name.

        Of a stage it is ``seconds.<stage>``, of a swap ``swap.<name>``, of a group
        ``groups.<group>.<name>``, a published one ``published.<name>``.
        """
        top_level = {name: value for name, value in self.to_dict().items() if isinstance(value, int | float)}
        seconds = {f"{_SECONDS_PREFIX}{stage}": value for stage, value in self.seconds.items()}
        swap = {f"{SWAP_PREFIX}{name}": value for name, value in self.swap.items()}
        published = self.published.numbers if self.published else {}
        published = {f"{PUBLISHED_PREFIX}{name}": value for name, value in published.items()}
        return top_level | seconds | swap | numbers_of_groups(self.groups) | published

    def as_run(self) -> "MaskRun":
        """As tables and pictures show it."""
        scores_from = None if self.executed else self.scores_from
        return MaskRun(
            dict(self.mask),
            self.metrics(),
            failure=None,
            scores_from=scores_from,
            published=self.published,
        )

    def save(self, folder: Path) -> None:
        """Write ``result.json`` into the folder."""
        with atomic_path(folder / RESULT_FILE) as part:
            part.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


def numbers_of_groups(groups: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Numbers of groups by the names that they have among all of a result's."""
    return {
        f"{GROUPS_PREFIX}{group}.{name}": value
        for group, numbers in groups.items()
        for name, value in numbers.items()
    }


def below(prefix: str, named: Mapping[str, Value]) -> dict[str, Value]:
    """What has the prefix, by the names behind it."""
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def is_of_embeddings(name: str) -> bool:
    """Whether embeddings of the list's recordings alone tell a number of :meth:`Result.metrics`."""
    return bool(error_number(name)) or is_of_groups(name) or name.startswith(SWAP_PREFIX)


def is_of_groups(name: str) -> bool:
    """Whether a number of :meth:`Result.metrics` is of groups of trials."""
    return name in (WORST.name, WORST_HIGH.name) or name.startswith(GROUPS_PREFIX)


def metric_of(name: str) -> Metric | None:
    """The description of a number by its name in :meth:`Result.metrics`; none of one that is not compared."""
    if name.startswith(_SECONDS_PREFIX):
        stage = name.removeprefix(_SECONDS_PREFIX)
        return Metric(name, stage, "s", Direction.minimize, ".2f", is_time=True)
    if name.startswith(SWAP_PREFIX):
        return swap_number(name.removeprefix(SWAP_PREFIX))
    known = (*ENGINE_METRICS, WORST, WORST_HIGH)
    return next((metric for metric in known if metric.name == name), None) or error_number(name)


@dataclass(frozen=True)
class MaskRun:
    """One recorded run as tables and pictures show it.

    Attributes:
        mask: Precision by unit; empty if the run failed before its mask was known.
        metrics: Its numbers (:meth:`Result.metrics`).
        failure: Why it failed, or :data:`UNFINISHED`; none if it finished.
        name: Its mask as it was given, in words.
        scores_from: Backend that computed its embeddings instead of the engine, which was built only; none if
            the engine ran.
        published: What others have published of its mask, if they have.
        settings: What was configured apart from the mask, by dotted names; by the name of a group of the
            configuration, the option that was chosen of it.
        facts: What must be equal for runs to be compared, in words by name: trials, recordings, scoring.
        made_with: What else its engine was made with, in words by name: checkpoint, calibration recordings.
        environment: Versions and devices by name.
        command: What measured it; empty if that is not known.
        multirun: Id of the multirun or search that it is of; empty if it is of none.
    """

    mask: dict[str, str]
    metrics: dict[str, float]
    failure: str | None
    name: str = ""
    scores_from: str | None = None
    published: Published | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    made_with: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    multirun: str = ""

    @property
    def is_baseline(self) -> bool:
        """Whether its mask leaves every unit as it is."""
        return {*self.mask.values()} == {BASELINE.name}
