"""``speakerquant-verify``: are these recordings of one speaker?"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from speakerquant.cache import Cache
from speakerquant.commands.console_script import run_command
from speakerquant.engine.backends import engine_builder
from speakerquant.engine.provenance import read_engine
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtRtxSettings
from speakerquant.errors import UserError, first_line
from speakerquant.evaluation.result import LABELS_FILE, RESULT_FILE, SCORES_FILE
from speakerquant.evaluation.scoring_protocol import ScoreNorm
from speakerquant.evaluation.verification import Verifier, threshold_of


def verify(
    path: Path, enrolled: list[Path], tested: Path, threshold: float | None, false_accepts: float | None
) -> None:
    """Print score, threshold, decision and time.

    Raises:
        UserError: the engine cannot be loaded here, a recording is unusable, or there is no threshold.
    """
    chosen = _threshold(path, false_accepts) if threshold is None else threshold
    _, provenance = read_engine(path)
    builder = engine_builder(provenance.engine, TensorRtRtxSettings(), Cache())
    with builder.load(path) as engine:
        verifier = Verifier.of(engine, Cache())
        start = time.perf_counter()
        score = verifier.score(enrolled, tested)
        seconds = time.perf_counter() - start
    decision = "the same speaker" if score >= chosen else "another speaker"
    print(f"{decision}: score {score:.6f}, threshold {chosen:.6f}, {1000 * seconds:.0f} ms")


def _threshold(engine: Path, false_accepts: float | None) -> float:
    """The threshold on the trial list that the engine was measured on."""
    files = [engine.with_name(name) for name in (RESULT_FILE, SCORES_FILE, LABELS_FILE)]
    missing = next((path for path in files if not path.is_file()), None)
    if missing:
        raise UserError(f"{missing} is not there, which tells the threshold; give one with --threshold")
    result, *arrays = files
    try:
        scoring = json.loads(result.read_text())["scoring"]
        scores, labels = (np.load(path, allow_pickle=False) for path in arrays)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{engine.parent}: results that cannot be read ({first_line(error)})") from None
    if scoring != ScoreNorm.none.value:
        raise UserError(
            f"{result}: the scores of this run are normalised ({scoring}), and two recordings' are not; "
            "give a threshold of cosines with --threshold"
        )
    return threshold_of(scores, labels, false_accepts)


def _command() -> None:
    parser = argparse.ArgumentParser(prog="speakerquant-verify", description=__doc__)
    parser.add_argument("--engine", type=Path, required=True, help="an engine that speakerquant has built")
    parser.add_argument("enrolled", type=Path, nargs="+", help="recordings of a speaker")
    parser.add_argument("tested", type=Path, help="the recording in question")
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
    verify(given.engine, given.enrolled, given.tested, given.threshold, given.false_accepts)


def main() -> None:
    """Entry point of ``speakerquant-verify``."""
    run_command(_command)


if __name__ == "__main__":
    main()
