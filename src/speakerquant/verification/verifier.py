"""Says whether recordings are of one speaker, by an engine and a threshold."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speakerquant.audio.feature_extractor import FeatureExtractor
from speakerquant.audio.features import FeatureArray
from speakerquant.audio.front_end import FrontEnd
from speakerquant.audio.waveform import Waveform, doubt_about, inspect_waveform
from speakerquant.cache import Cache
from speakerquant.engine.backends import engine_builder
from speakerquant.engine.base import Engine
from speakerquant.engine.provenance import (
    CHANNEL,
    FRONT_END,
    MAX_FRAMES,
    MIN_FRAMES,
    find_engine,
    read_provenance,
)
from speakerquant.errors import UserError, first_line
from speakerquant.measuring.result import LABELS_FILE, RESULT_FILE, SCORES_FILE
from speakerquant.statistics.error_rates import ScoredTrials, threshold_at
from speakerquant.statistics.score_calibration import ScoreCalibration
from speakerquant.statistics.score_norm import ScoreNorm
from speakerquant.statistics.scores import cosine_scores
from speakerquant.statistics.swap_metrics import FEWEST_ERRORS, is_resolved

log = logging.getLogger(__name__)

_HOW = "(speakerquant-verify --threshold 0.5, speakerquant-register threshold=0.5)"

_LOUDEST = 10  # of samples; decoding and filtering lead a little beyond 1

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recording:
    """A recording to embed.

    Attributes:
        name: What it is called.
        features: ``[n_mels, T]``.
        doubt: Why it says little of its speaker although it can be read; none if nothing is wrong.
    """

    name: str
    features: FeatureArray
    doubt: str | None


@dataclass(frozen=True)
class Verifier:
    """Scores recordings against enrolled speakers: the cosine of their embeddings.

    As a context it closes its engine at the end.

    Attributes:
        engine: What embeds.
        front_end: Features that it takes.
        min_frames: Fewest frames that it takes.
        max_frames: Most frames that it takes; none if it takes any length.
        channel: Which channel of recordings it was measured on, from 1; none if on their average.
    """

    engine: Engine
    front_end: FrontEnd
    min_frames: int
    max_frames: int | None = None
    channel: int | None = None

    @classmethod
    def load(cls, engine: Path | str) -> "Verifier":
        """The verifier of an engine.

        Args:
            engine: Its file, or a folder that it lies in, such as a run's.

        Raises:
            UserError: there is none or several, it cannot be loaded here, or does not tell its front end.
        """
        engine = find_engine(Path(engine))
        provenance = read_provenance(engine)
        network = provenance.network
        try:
            front_end, min_frames = FrontEnd(**json.loads(network[FRONT_END])), int(network[MIN_FRAMES])
            longest = provenance.settings.get(MAX_FRAMES)
            max_frames = int(longest) if longest else None
            channel = int(network[CHANNEL]) if CHANNEL in network else None
        except (KeyError, ValueError, TypeError):
            raise UserError(f"{engine}: does not say what features it takes; build it again") from None
        builder = engine_builder(provenance.engine, cache=Cache())
        return cls(builder.load(engine), front_end, min_frames, max_frames, channel)

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()

    def read(self, path: Path | str) -> Recording:
        """A recording from its file, of any rate and number of channels, with what is to be doubted of it.

        Raises:
            UserError: it cannot be read, lacks the channel, or is too short or too long.
        """
        found = inspect_waveform(Path(path), self.front_end.sample_rate, self.channel)
        return self._recording(str(path), found.waveform, found.doubt)

    def take(self, name: str, samples: npt.ArrayLike) -> Recording:
        """A recording from its samples, with what is to be doubted of it.

        Args:
            name: What it is called.
            samples: Mono ``[samples]`` in [-1, 1] at the front end's sample rate, of any floating-point type.

        Raises:
            UserError: these are no such samples, or too few or too many.
        """
        waveform = _waveform(name, samples)
        return self._recording(name, waveform, doubt_about(waveform) or _doubt_about_scale(waveform))

    def embed(self, recordings: Iterable[Recording]) -> Iterator[Vector]:
        """Embeddings ``[dim]`` of length 1 of recordings, in their order; few are in memory at a time."""
        for vector in self.engine.embed_many(recording.features for recording in recordings):
            yield vector / np.linalg.norm(vector)

    @cached_property
    def _extractor(self) -> FeatureExtractor:
        return FeatureExtractor(self.front_end)

    def _recording(self, name: str, waveform: Waveform, doubt: str | None) -> Recording:
        if len(waveform) < (fewest := self.front_end.min_samples):
            raise UserError(f"{name}: {len(waveform)} samples are shorter than one frame of {fewest}")
        features = self._extractor.extract(waveform)
        if features.shape[1] < self.min_frames:
            raise UserError(f"{name}: {features.shape[1]} frames, and the network needs {self.min_frames}")
        if self.max_frames is not None and features.shape[1] > self.max_frames:
            raise UserError(
                f"{name}: {features.shape[1]} frames, and the engine takes {self.max_frames} at most; cut "
                "it, or build the engine with a larger engine.max_frames"
            )
        return Recording(name, features, doubt)


def _waveform(name: str, samples: npt.ArrayLike) -> Waveform:
    """Samples as front ends compute with them, ``[samples]``, one at least and all finite.

    Raises:
        UserError: they are no such samples.
    """
    try:
        given = np.asarray(samples)
        waveform: Waveform = np.require(given, np.float32, ["C", "W"])
    except (TypeError, ValueError):
        raise UserError(f"{name}: neither an audio file nor samples; give numbers, [samples]") from None
    if waveform.ndim != 1:
        raise UserError(
            f"{name}: shape {given.shape}, neither an audio file nor samples of one channel; give [samples]"
        )
    if not waveform.size:
        raise UserError(f"{name}: no samples; give a recording")
    if not np.isfinite(waveform).all():
        raise UserError(f"{name}: samples that are NaN or infinite; give finite ones")
    if given.dtype.kind in "iu" and (largest := np.abs(waveform).max()) > 1:
        raise UserError(
            f"{name}: integers as large as {largest:.0f}; divide them, so that samples lie in [-1, 1]"
        )
    return waveform


def _doubt_about_scale(waveform: Waveform) -> str | None:
    """What makes it likely that samples are not of the scale that front ends expect; none if nothing does."""
    largest = np.abs(waveform).max()
    return f"samples as large as {largest:.6g} instead of 1" if largest > _LOUDEST else None


def checked_threshold(threshold: float) -> float:
    """A threshold that somebody has given, which scores can be above or below.

    Raises:
        UserError: it is no cosine.
    """
    if not -1 <= threshold <= 1:  # as NaN is not
        raise UserError(f"threshold of {threshold:g}: scores are cosines; give a number from -1 to 1")
    return threshold


def score(enrolled: Sequence[Vector], tested: Vector) -> float:
    """The mean, from -1 to 1, of the cosines of a speaker's embeddings with the tested one.

    Thresholds and calibrations are of trials of one recording against one. The cosine of the embeddings' mean
    is higher than this by its length, which is below 1, for other speakers too, so that more were accepted.
    """
    count = len(enrolled)
    return float(cosine_scores(np.stack([*enrolled, tested]), range(count), [count] * count).mean())


def known_threshold(engine: Path, false_accepts: float | None = None) -> float:
    """The threshold on the trial list that an engine was measured on, whose scores are beside it.

    Args:
        engine: The engine file.
        false_accepts: As for :func:`threshold_of`.

    Raises:
        UserError: the scores are missing, normalised or of another engine, or as :func:`threshold_of`.
    """
    _, scoring = _own_result(engine)
    try:
        scores, labels = (
            np.load(engine.with_name(name), allow_pickle=False) for name in (SCORES_FILE, LABELS_FILE)
        )
    except FileNotFoundError as error:
        raise _missing(Path(error.filename)) from None
    except (OSError, ValueError) as error:
        raise _unreadable(engine, error) from None
    if scoring != ScoreNorm.none.value:
        raise UserError(
            f"{engine.with_name(RESULT_FILE)}: the scores of this run are normalised ({scoring}), and two "
            f"recordings' are not; give a threshold of cosines {_HOW}"
        )
    return threshold_of(scores, labels, false_accepts)


def known_calibration(engine: Path) -> ScoreCalibration | None:
    """What makes log-likelihood ratios of an engine's scores: the calibration of FP32 beside its measurement.

    None where no run that measured this engine is beside it, or where its scores were normalised.
    """
    try:
        result, scoring = _own_result(engine)
        slope, offset = (float(result["score_calibration"][name]) for name in ("slope", "offset"))
    except (UserError, ValueError, KeyError, TypeError):
        return None
    return ScoreCalibration(slope, offset) if scoring == ScoreNorm.none.value else None


def _own_result(engine: Path) -> tuple[Mapping[str, Any], str]:
    """The result beside an engine, and how its scores were normalised.

    Raises:
        UserError: there is none, it cannot be read, or it is of another engine.
    """
    path = engine.with_name(RESULT_FILE)
    try:
        result: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        measured, ours = result.get("engine_sha256"), read_provenance(engine).sha256
        scoring = str(result["scoring"])
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(engine, error) from None
    if measured is None:
        raise UserError(
            f"{path}: of an earlier version of this program; measure the mask again, or give a threshold "
            f"{_HOW}"
        )
    if measured != ours:
        raise UserError(
            f"{path}: of another engine than {engine.name} beside it; measure this one, or give a threshold "
            f"{_HOW}"
        )
    return result, scoring


def _missing(path: Path) -> UserError:
    return UserError(f"{path} is not there, which tells the threshold; give one {_HOW}")


def _unreadable(engine: Path, error: Exception) -> UserError:
    return UserError(f"{engine.parent}: results that cannot be read ({first_line(error)})")


def threshold_of(scores: npt.ArrayLike, labels: npt.ArrayLike, false_accepts: float | None = None) -> float:
    """The score from which on trials are accepted, chosen on trials whose truth is known.

    Args:
        scores: ``[num_trials]``.
        labels: ``[num_trials]``, true for target trials.
        false_accepts: Most percent of non-target trials that may be accepted; none takes the threshold of
            the equal error rate.

    Raises:
        UserError: the share is none, or as :func:`speakerquant.statistics.error_rates.error_rates`.
    """
    if false_accepts is not None and not 0 < false_accepts < 100:
        raise UserError(f"false accepts of {false_accepts:g} %: give percent, above 0 and below 100")
    trials = ScoredTrials.of(scores, labels)
    num_others = int(np.count_nonzero(~trials.targets))
    if false_accepts is not None and not is_resolved(false_accepts, num_others):
        log.warning(
            "false accepts of %g %%: %d non-target trials do not show that by %d false accepts, so there may "
            "be more; take a threshold from a longer list, or a higher rate",
            *(false_accepts, num_others, FEWEST_ERRORS),
        )
    return threshold_at(trials, false_accepts)
