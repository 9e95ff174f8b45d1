"""``speakerquant-verify``: are these recordings of one speaker?"""

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from speakerquant.commands.console_script import run_command
from speakerquant.commands.engine_files import found_engine
from speakerquant.corpus.recordings import listed_path, read_lines
from speakerquant.errors import UserError
from speakerquant.progress import track
from speakerquant.verification.verifier import Vector, Verifier, known_threshold


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
    """Print decision and score of every line of a list, and the line; every recording is embedded once.

    Raises:
        UserError: as :func:`verify`; or a line cannot be understood.
    """
    lines = _read_questions(path)
    with _opened(model, threshold, false_accepts) as (verifier, chosen):
        paths = list(dict.fromkeys(each for one in lines.values() for each in (*one.enrolled, one.tested)))
        embedded = track(verifier.embed(map(verifier.read, paths)), "recordings", total=len(paths))
        vectors: dict[Path, Vector] = dict(zip(paths, embedded, strict=True))
        for line, question in lines.items():
            score = verifier.score([vectors[each] for each in question.enrolled], vectors[question.tested])
            print("same" if score >= chosen else "other", f"{score:.6f}", line, sep="\t")


@contextmanager
def _opened(
    model: str, threshold: float | None, false_accepts: float | None
) -> Iterator[tuple[Verifier, float]]:
    with found_engine(model) as engine:
        chosen = known_threshold(engine, false_accepts) if threshold is None else threshold
        with Verifier.load(engine) as verifier:
            yield verifier, chosen


def _read_questions(path: Path) -> dict[str, Question]:
    """The questions of a list, by line."""
    questions = {}
    for number, line in enumerate(read_lines(path, "the list of recordings"), 1):
        if fields := line.split():
            if len(fields) < 2:
                raise UserError(
                    f"{path}:{number}: one recording; write those of a speaker, then the tested one"
                )
            *enrolled, tested = (listed_path(path, field) for field in fields)
            questions[line] = Question(enrolled, tested)
    if not questions:
        raise UserError(
            f"{path}: nothing to verify; write recordings of a speaker and a tested one in each line"
        )
    return questions


def _command() -> None:
    parser = argparse.ArgumentParser(prog="speakerquant-verify", description=__doc__)
    parser.add_argument(
        "--model",
        required=True,
        help="an engine that speakerquant has built, a folder with one, or models:/name@alias in MLflow",
    )
    parser.add_argument("recordings", type=Path, nargs="*", help="of a speaker; the last one is in question")
    parser.add_argument("--list", type=Path, help="file with such recordings in every line")
    threshold = parser.add_mutually_exclusive_group()
    threshold.add_argument("--threshold", type=float, help="score from which on speakers are the same")
    threshold.add_argument(
        "--false-accepts",
        type=float,
        metavar="PERCENT",
        help="of other speakers that may be accepted, on the list that the engine was measured on; "
        "by default as many as are wrongly rejected",
    )
    given = parser.parse_args()
    if given.list is not None and given.recordings:
        raise UserError("--list: recordings are given beside it; leave one of both out")
    if given.list is not None:
        verify_list(given.model, given.list, given.threshold, given.false_accepts)
    elif len(given.recordings) < 2:
        raise UserError("give a recording of a speaker, or several, and the one in question; or --list")
    else:
        *enrolled, tested = given.recordings
        verify(given.model, Question(enrolled, tested), given.threshold, given.false_accepts)


def main() -> None:
    """Entry point of ``speakerquant-verify``."""
    run_command(_command)


if __name__ == "__main__":
    main()
