"""Questions whether recordings are of one speaker, answered by an engine and a threshold."""

import logging
import time
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from speakerquant.commands.engine_files import FoundEngine, found_engine
from speakerquant.corpus.lists import fields_of, read_lines
from speakerquant.corpus.recordings import file_identity, listed_path
from speakerquant.errors import UserError, first_line
from speakerquant.progress import track
from speakerquant.statistics.score_calibration import ScoreCalibration
from speakerquant.verification.verifier import (
    Recording,
    Vector,
    Verifier,
    checked_threshold,
    known_calibration,
    known_threshold,
    score,
)

T = TypeVar("T")

_NOTHING = "-"  # stands for what is not known

log = logging.getLogger(__name__)


def verify(
    model: str,
    recordings: Sequence[Path],
    threshold: float | None = None,
    false_accepts: float | None = None,
) -> None:
    """Print decision, score, threshold and time of one question.

    Args:
        model: Name of the run of an engine (:data:`RUN_NAMES`).
        recordings: Those of a speaker, and last the one in question.
        threshold: Score from which on speakers are the same; none is the one that the model is registered
            with, or that of the list which the engine was measured on.
        false_accepts: Most percent of other speakers that it may accept; none takes that of the EER.

    Raises:
        UserError: the engine cannot be loaded here, a recording is unusable, or there is no threshold, or one
            that is no cosine.
    """
    with _opened(model, partial(_threshold, threshold, false_accepts)) as (verifier, chosen, calibration):
        start = time.perf_counter()
        *known, unknown = verifier.embed(_read(verifier, path) for path in recordings)
        found = score(known, unknown)
        seconds = time.perf_counter() - start
    decision = "the same speaker" if found >= chosen else "another speaker"
    ratio = f", log-likelihood ratio {calibration.ratio(found):+.2f}" if calibration else ""
    print(f"{decision}: score {found:.6f}, threshold {chosen:.6f}{ratio}, {1000 * seconds:.0f} ms")


def verify_list(
    model: str, path: Path, threshold: float | None = None, false_accepts: float | None = None
) -> None:
    """Print decision, score, log-likelihood ratio and text of every line; every recording is embedded once.

    A line is answered where it stands, and a blank one by a blank one: answers can be joined by lines. Where
    a recording of a line cannot be used, ``-`` stands for decision, score and ratio.

    Raises:
        UserError: the engine cannot be loaded here, there is no threshold, or a line cannot be understood;
            or, after all answers, a recording of one cannot be used.
    """
    questions = _read_questions(path)
    with _opened(model, partial(_threshold, threshold, false_accepts)) as (verifier, chosen, calibration):
        vectors, faults = _embedded(verifier, questions, "recordings")
        for line, asked in zip(questions.lines, questions.asked, strict=True):
            if not asked:
                print()
                continue
            if faults.keys() & asked:
                print(*[_NOTHING] * 3, line, sep="\t")
                continue
            *enrolled, tested = (vectors[index] for index in asked)
            found = score(enrolled, tested)
            ratio = f"{calibration.ratio(found):+.2f}" if calibration else _NOTHING
            print("same" if found >= chosen else "other", f"{found:.6f}", ratio, line, sep="\t")
    if faults:
        raise _unanswered(path, questions, faults)


def verify_replacement(
    model: str,
    replaces: str,
    path: Path,
    threshold: float | None = None,
    false_accepts: float | None = None,
) -> None:
    """Print what changes for users where one engine takes another's place.

    First the lines of the list of which another decision is made, at the threshold of the engine in use; then
    how many decisions change with that threshold, with the new engine's own, and with speakers that stay
    enrolled by the engine in use. Lines with a recording that one of them cannot use are left out.

    Args:
        model: The new engine, as for :func:`verify`.
        replaces: The engine in use, likewise.
        path: A list, as for :func:`verify_list`.
        threshold: Of the engine in use; none is that of the list which it was measured on. With one, the new
            engine's own need not be known.
        false_accepts: Likewise, for both engines.

    Raises:
        UserError: as :func:`verify_list`.
    """
    questions = _read_questions(path)
    with _opened(replaces, partial(_threshold, threshold, false_accepts)) as (verifier, in_use, _):
        former, faults = _embedded(verifier, questions, "recordings, engine in use")
    own_threshold = _threshold_if_known if threshold is not None else partial(_threshold, None)
    with _opened(model, partial(own_threshold, false_accepts)) as (verifier, own, _):
        new, faults_of_new = _embedded(verifier, questions, "recordings, new engine")
    faults |= faults_of_new
    places = [place for place, each in enumerate(questions.asked) if each and not faults.keys() & each]
    if not places:
        raise _unanswered(path, questions, faults)
    lines = [questions.lines[place] for place in places]
    asked = [questions.asked[place] for place in places]
    before, now = _scores(asked, former, former), _scores(asked, new, new)
    accepted = before >= in_use
    for place in np.flatnonzero((now >= in_use) != accepted):
        decision = "same" if now[place] >= in_use else "other"
        print(decision, f"{before[place]:.6f}", f"{now[place]:.6f}", lines[place], sep="\t")
    print(f"in use, threshold {in_use:.6f}: {_share(accepted)} the same speaker")
    _print_changes(f"new, threshold {in_use:.6f}", accepted, now >= in_use)
    if own is not None:
        _print_changes(f"new, its own threshold {own:.6f}", accepted, now >= own)
    enrolled_in_use = "new, speakers enrolled by the engine in use"
    dims = [len(next(iter(vectors.values()))) for vectors in (new, former)]
    if len(set(dims)) == 1:
        kept = _scores(asked, former, new) >= in_use
        _print_changes(f"{enrolled_in_use}, threshold {in_use:.6f}", accepted, kept)
    else:
        print(f"{enrolled_in_use}: not possible, embeddings have {dims[0]} and {dims[1]} values")
    if faults:
        raise _unanswered(path, questions, faults)


def _print_changes(what: str, before: npt.NDArray[np.bool_], now: npt.NDArray[np.bool_]) -> None:
    """Print how many are accepted now, and how many were not or are not any more."""
    print(
        f"{what}: {_share(now)} the same speaker; of {len(now)} decisions {(now & ~before).sum()} become "
        f"'same', {(before & ~now).sum()} 'other'"
    )


def _share(accepted: npt.NDArray[np.bool_]) -> str:
    return f"{100 * accepted.mean():.2f} %"


def _read(verifier: Verifier, path: Path) -> Recording:
    """A recording; that it says little of its speaker is warned of."""
    recording = verifier.read(path)
    if recording.doubt:
        log.warning("%s: %s", path, recording.doubt)
    return recording


def _embedded(
    verifier: Verifier, questions: "_Questions", description: str
) -> tuple[dict[int, Vector], dict[int, str]]:
    """Embeddings of the recordings that can be used, by their places, and why the others cannot."""
    usable: list[int] = []
    faults: dict[int, str] = {}

    def read() -> Iterator[Recording]:
        paths = track(questions.recordings, description, total=len(questions.recordings))
        for place, path in enumerate(paths):
            try:
                recording = _read(verifier, path)
            except UserError as error:
                faults[place] = str(error)
            else:
                usable.append(place)
                yield recording

    vectors = list(verifier.embed(read()))
    return dict(zip(usable, vectors, strict=True)), faults


def _unanswered(path: Path, questions: "_Questions", faults: Mapping[int, str]) -> UserError:
    """The error that lines of a list have no answer, as recordings of theirs cannot be used."""
    numbers = [number for number, asked in enumerate(questions.asked, 1) if faults.keys() & asked]
    first = next(faults[place] for place in questions.asked[numbers[0] - 1] if place in faults)
    return UserError(f"{path}:{numbers[0]}: {first} (lines without an answer: {len(numbers)})")


def _scores(
    asked: Iterable[Sequence[int]], enrolled: Mapping[int, Vector], tested: Mapping[int, Vector]
) -> npt.NDArray[np.float64]:
    """Scores of lines."""
    return np.array([score([enrolled[i] for i in known], tested[last]) for *known, last in asked])


@contextmanager
def _opened(
    model: str, threshold_of: Callable[[FoundEngine], T]
) -> Iterator[tuple[Verifier, T, ScoreCalibration | None]]:
    """What verifies, after the threshold is known, which may be wanting, and the calibration."""
    with found_engine(model) as engine:
        threshold = threshold_of(engine)
        with Verifier.load(engine.path) as verifier:
            yield verifier, threshold, known_calibration(engine.path)


def _threshold(threshold: float | None, false_accepts: float | None, engine: FoundEngine) -> float:
    """The threshold that was asked for, or else the engine's own."""
    if threshold is not None:
        return checked_threshold(threshold)
    if engine.threshold is not None and false_accepts is None:
        return engine.threshold
    return known_threshold(engine.path, false_accepts)


def _threshold_if_known(false_accepts: float | None, engine: FoundEngine) -> float | None:
    """The engine's own threshold; none, with a warning, if it is not known."""
    try:
        return _threshold(None, false_accepts, engine)
    except UserError as error:
        log.warning("the new engine's own threshold is left out: %s", first_line(error))
        return None


@dataclass(frozen=True)
class _Questions:
    """A list of questions.

    Attributes:
        lines: Its lines.
        asked: Of each line the places of its recordings in ``recordings``, the tested one last; none if it is
            blank.
        recordings: All recordings that are asked about, each once.
    """

    lines: Sequence[str]
    asked: Sequence["array[int]"]
    recordings: Sequence[Path]


def _read_questions(path: Path) -> _Questions:
    lines, asked = [], []
    files: dict[Hashable, tuple[int, Path]] = {}

    @cache
    def place_of(field: str) -> int:
        file = listed_path(path, field)
        if not file.is_file():
            raise FileNotFoundError(field)
        return files.setdefault(file_identity(file), (len(files), file))[0]

    for number, line in enumerate(read_lines(path, "the list of recordings"), 1):
        fields = fields_of(line)
        if len(fields) == 1:
            raise UserError(f"{path}:{number}: one recording; write those of a speaker, then the tested one")
        lines.append(line)
        try:
            asked.append(array("i", map(place_of, fields)))
        except FileNotFoundError as missing:
            raise UserError(f"{path}:{number}: {missing}: no such recording; correct the line") from None
    if not files:
        raise UserError(
            f"{path}: nothing to verify; write recordings of a speaker and a tested one in each line"
        )
    if enrolled := [number for number, each in enumerate(asked, 1) if each and each[-1] in each[:-1]]:
        log.warning(
            "%s:%d: the tested recording is one of the speaker's, so that the answer says little (lines like "
            "it: %d)",
            *(path, enrolled[0], len(enrolled)),
        )
    return _Questions(lines, asked, [file for _, file in files.values()])
