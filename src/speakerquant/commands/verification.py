"""Questions whether recordings are of one speaker, answered by an engine and a threshold."""

import logging
import time
from array import array
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from speakerquant.commands.engine_files import found_engine
from speakerquant.corpus.lists import fields_of, read_lines
from speakerquant.corpus.recordings import file_identity, listed_path
from speakerquant.errors import UserError
from speakerquant.progress import track
from speakerquant.verification.verifier import Verifier, known_threshold

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """Whether the speaker of some recordings is that of another one."""

    enrolled: Sequence[Path]
    tested: Path


def verify(
    model: str, question: Question, threshold: float | None = None, false_accepts: float | None = None
) -> None:
    """Print decision, score, threshold and time of one question.

    Args:
        model: Path of an engine or of a folder with one, or MLflow's address of a registered model.
        question: What is asked.
        threshold: Score from which on speakers are the same; none is that of the list which the engine was
            measured on.
        false_accepts: Most percent of other speakers that it may accept; none takes that of the EER.

    Raises:
        UserError: the engine cannot be loaded here, a recording is unusable, or there is no threshold.
    """
    with _opened(model, threshold, false_accepts) as (verifier, chosen):
        start = time.perf_counter()
        *known, unknown = verifier.embed(map(verifier.read, [*question.enrolled, question.tested]))
        score = verifier.score(known, unknown)
        seconds = time.perf_counter() - start
    decision = "the same speaker" if score >= chosen else "another speaker"
    print(f"{decision}: score {score:.6f}, threshold {chosen:.6f}, {1000 * seconds:.0f} ms")


def verify_list(
    model: str, path: Path, threshold: float | None = None, false_accepts: float | None = None
) -> None:
    """Print decision, score and text of every line of a list; every recording is embedded once.

    A line is answered where it stands, and a blank one by a blank one: answers can be joined by lines.

    Raises:
        UserError: as :func:`verify`; or a line cannot be understood.
    """
    questions = _read_questions(path)
    with _opened(model, threshold, false_accepts) as (verifier, chosen):
        embedded = verifier.embed(map(verifier.read, questions.recordings))
        vectors = list(track(embedded, "recordings", total=len(questions.recordings)))
        for line, asked in zip(questions.lines, questions.asked, strict=True):
            if not asked:
                print()
                continue
            *enrolled, tested = (vectors[index] for index in asked)
            score = verifier.score(enrolled, tested)
            print("same" if score >= chosen else "other", f"{score:.6f}", line, sep="\t")


@contextmanager
def _opened(
    model: str, threshold: float | None, false_accepts: float | None
) -> Iterator[tuple[Verifier, float]]:
    with found_engine(model) as engine:
        chosen = known_threshold(engine, false_accepts) if threshold is None else threshold
        with Verifier.load(engine) as verifier:
            yield verifier, chosen


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
        return files.setdefault(file_identity(file), (len(files), file))[0]

    for number, line in enumerate(read_lines(path, "the list of recordings"), 1):
        fields = fields_of(line)
        if len(fields) == 1:
            raise UserError(f"{path}:{number}: one recording; write those of a speaker, then the tested one")
        lines.append(line)
        asked.append(array("i", map(place_of, fields)))
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
