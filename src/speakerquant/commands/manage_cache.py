"""``speakerquant-cache``: what the cache holds, and removal of what was not used for longest."""

import argparse
import math
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from pathlib import Path

from rich.table import Table

from speakerquant.cache import Cache, Entry
from speakerquant.commands.console_script import run_command
from speakerquant.console import table_console
from speakerquant.errors import UserError


def show(cache: Cache) -> None:
    """Print kinds of entries with their number, size and last use.

    Raises:
        UserError: there is no cache, or it cannot be read.
    """
    entries = sorted(cache.entries(), key=lambda entry: (entry.kind, not entry.is_finished))
    if not entries and not cache.root.is_dir():
        raise UserError(f"{cache.root}: there is no cache; give its folder with --root")
    table = Table("kind", "entries", "MB", "last use", title=str(cache.root))
    for (kind, is_finished), members in groupby(entries, lambda entry: (entry.kind, entry.is_finished)):
        _add_row(table, kind if is_finished else f"{kind}, unfinished", [*members])
    _add_row(table, "all", entries)
    table_console().print(table)


def _add_row(table: Table, title: str, entries: list[Entry]) -> None:
    last_use = max((entry.last_use for entry in entries), default=None)
    when = "" if last_use is None else f"{datetime.fromtimestamp(last_use):%Y-%m-%d %H:%M}"
    table.add_row(title, str(len(entries)), _megabytes(entries), when)


def _megabytes(entries: Iterable[Entry]) -> str:
    return f"{sum(entry.num_bytes for entry in entries) / 1e6:,.1f}"


def prune(cache: Cache, max_bytes: float) -> None:
    """Remove what was not used for longest until at most so many bytes are left; print what it was.

    Raises:
        UserError: there is no such size or no cache, or it cannot be read.
    """
    if not 0 <= max_bytes < math.inf:
        raise UserError(f"--max-bytes {max_bytes:g}: give a number of bytes, such as 20e9")
    removed = [*cache.prune(max_bytes)]
    print(f"removed {len(removed)} entries, {_megabytes(removed)} MB")
    left = [*cache.entries()]
    if sum(entry.num_bytes for entry in left) > max_bytes:
        print("the rest is being made, was used within the last hour, or is another user's")
    show(cache)


def _command() -> None:
    parser = argparse.ArgumentParser(prog="speakerquant-cache", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {
        "show": "show kinds of entries with their number, size and last use",
        "prune": "remove what was not used for longest, except what is in use or being made",
    }.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--root", type=Path, help="folder of the cache, as cache.root; else the user's")
    commands.choices["prune"].add_argument(
        "--max-bytes", type=float, required=True, help="most bytes that may stay, such as 20e9"
    )
    given = parser.parse_args()
    cache = Cache(given.root)
    if given.command == "prune":
        prune(cache, given.max_bytes)
    else:
        show(cache)


def main() -> None:
    """Entry point of ``speakerquant-cache``."""
    run_command(_command)
