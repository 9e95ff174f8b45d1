"""A verifier as MLflow serves it.

MLflow loads this module by its name, so that the folder of a model holds data and no code.
"""

import base64
import tempfile
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from speakerquant.engine.provenance import find_engine
from speakerquant.errors import UserError, said_as
from speakerquant.statistics.score_calibration import ScoreCalibration
from speakerquant.verification.verifier import (
    Recording,
    Verifier,
    checked_threshold,
    known_calibration,
    score,
)

ENROLLED, TESTED = "enrolled", "tested"
"""What a request gives."""

SCORE, SAME_SPEAKER, RATIO, DOUBT = "score", "same_speaker", "log_likelihood_ratio", "doubt"
"""What an answer says; the last two may be none."""

THRESHOLD = "threshold"
"""Parameter of a request: the score from which on speakers are the same."""


class ServedVerifier:
    """Answers requests.

    Args:
        verifier: What scores.
        calibration: What makes log-likelihood ratios of scores; none where that is not known.
    """

    def __init__(self, verifier: Verifier, calibration: ScoreCalibration | None) -> None:
        self._verifier = verifier
        self._calibration = calibration

    def predict(self, model_input: Any, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Score, decision, natural log-likelihood ratio and doubt of every row of a data frame.

        The ratio is none where no calibration is known, the doubt where no recording is doubtful.

        Args:
            model_input: Its columns are ``enrolled`` and ``tested``. A recording is an audio file, as bytes
                or in base64, or its samples in [-1, 1] at the front end's rate; a speaker may be enrolled
                with a list of recordings.
            params: The threshold, which the model's signature has a default for.

        Raises:
            UserError: a recording cannot be used, or the threshold is no cosine.
        """
        threshold = checked_threshold(float(params[THRESHOLD]))
        answers = []
        for number, row in enumerate(model_input.to_dict("records")):
            enrolled = [
                self._recording(f"row {number}, {ENROLLED}", each) for each in _recordings(row[ENROLLED])
            ]
            tested = self._recording(f"row {number}, {TESTED}", row[TESTED])
            *known, unknown = self._verifier.embed([*enrolled, tested])
            found = score(known, unknown)
            ratio = self._calibration.ratio(found) if self._calibration else None
            heard = [*((ENROLLED, each) for each in enrolled), (TESTED, tested)]
            doubt = "; ".join(f"{name}: {each.doubt}" for name, each in heard if each.doubt) or None
            answers.append({SCORE: found, SAME_SPEAKER: found >= threshold, RATIO: ratio, DOUBT: doubt})
        return answers

    def _recording(self, name: str, value: Any) -> Recording:
        if isinstance(value, str | bytes):
            try:
                contents = (
                    base64.b64decode("".join(value.split()), validate=True)
                    if isinstance(value, str)
                    else value
                )
            except ValueError:
                raise UserError(f"{name}: not base64; send the bytes of an audio file in it") from None
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "recording"
                path.write_bytes(contents)
                with said_as({str(path): name}):
                    return self._verifier.read(path)
        return self._verifier.take(name, value)


def _recordings(value: Any) -> Sequence[Any]:
    """The recordings that a speaker is enrolled with: a list of them, or one."""
    is_several = isinstance(value, list | tuple) and value and not isinstance(value[0], Real)
    return value if is_several else [value]


def _load_pyfunc(path: str) -> ServedVerifier:
    """The served verifier of a folder with an engine, which MLflow calls."""
    engine = find_engine(Path(path))
    return ServedVerifier(Verifier.load(engine), known_calibration(engine))
