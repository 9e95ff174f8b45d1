"""``speakerquant-verify``: are these recordings of one speaker?"""

import argparse
from pathlib import Path

from speakerquant.commands.console_script import RUN_NAMES, importing, run_command
from speakerquant.errors import UserError


def _command() -> None:
    parser = argparse.ArgumentParser(prog="speakerquant-verify", description=__doc__)
    parser.add_argument("--model", required=True, help=RUN_NAMES)
    parser.add_argument("recordings", type=Path, nargs="*", help="of a speaker; the last one is in question")
    parser.add_argument(
        "--list",
        type=Path,
        help="file with such recordings in every line; names with blanks in double quotes",
    )
    parser.add_argument(
        "--replaces",
        metavar="MODEL",
        help="the one in use, named likewise: shows what changes on --list where --model takes its place",
    )
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
    with importing():
        from speakerquant.commands.verification import verify, verify_list, verify_replacement

    if given.list is not None and given.recordings:
        raise UserError("--list: recordings are given beside it; leave one of both out")
    if given.replaces is not None and given.list is None:
        raise UserError("--replaces: give a --list, on which both engines are compared")
    if given.replaces is not None:
        verify_replacement(given.model, given.replaces, given.list, given.threshold, given.false_accepts)
    elif given.list is not None:
        verify_list(given.model, given.list, given.threshold, given.false_accepts)
    elif len(given.recordings) < 2:
        raise UserError("give a recording of a speaker, or several, and the one in question; or --list")
    else:
        verify(given.model, given.recordings, given.threshold, given.false_accepts)


def main() -> None:
    """Entry point of ``speakerquant-verify``."""
    run_command(_command)
