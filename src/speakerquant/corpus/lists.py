"""Text files that name recordings: their lines, the fields of a line, and the one name of a recording."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from speakerquant.errors import UserError
from speakerquant.progress import track

_BLOCK = 1_000_000  # characters that are read at once
_LONG = 30  # blocks, from which on it takes seconds

_FIELD = re.compile(r'"((?:[^"]|"")*)"(?!\S)|(\S+)')


def read_lines(path: Path, what: str) -> Iterator[str]:
    """The lines of a text file, without their ends.

    Args:
        path: The file.
        what: What it is, for the error.

    Raises:
        UserError: it is missing or not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            total = path.stat().st_size // _BLOCK + 1
            blocks = iter(lambda: file.readlines(_BLOCK), [])
            for block in track(blocks, f"{path.name}, MB", total, visible=total > _LONG):
                for line in block:
                    yield line.rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read {what} ({error})") from None


def fields_of(line: str) -> list[str]:
    """The fields of a line, which blanks separate.

    As in CSV files, a field that holds blanks stands in double quotes, and a double quote in it is doubled.
    """
    if '"' not in line:
        return line.split()
    return [plain or quoted.replace('""', '"') for quoted, plain in _FIELD.findall(line)]


def as_field(text: str) -> str:
    """A field as :func:`fields_of` reads it."""
    return text if fields_of(text) == [text] else '"' + text.replace('"', '""') + '"'


def recording_name(written: str) -> str:
    """The one name of a recording that may be written in several ways: ``./a//b.wav`` is ``a/b.wav``."""
    return str(PurePosixPath(written))


def check_names(names: Iterable[str], listed_in: Path) -> None:
    """Check that recordings lie in the folder that they are sought in, or their speakers could not be told.

    Args:
        names: As of :func:`recording_name`.
        listed_in: The list, for the error.

    Raises:
        UserError: a name is an absolute path, may lead out of the folder, or names no file.
    """
    for name in names:
        if name.startswith("/") or name == "." or ".." in name.split("/"):
            raise UserError(
                f"{listed_in}: recording {name} lies outside the root; write paths relative to data.root, "
                "without '..'"
            )


def read_mapping(path: Path, value: str, what: str) -> dict[str, str]:
    """What a file of lines ``recording value`` says of recordings, such as Kaldi's ``utt2spk``.

    Args:
        path: The file.
        value: What is said of a recording, for errors.
        what: What the file is, likewise.

    Raises:
        UserError: the file is missing, a line has not two fields, or a recording has two values.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(read_lines(path, what), 1):
        fields = fields_of(line)
        if not fields:
            continue
        if len(fields) != 2:
            raise UserError(f"{path}:{number}: {len(fields)} fields; write 'recording {value}'")
        name = recording_name(fields[0])
        if values.setdefault(name, fields[1]) != fields[1]:
            raise UserError(f"{path}:{number}: {name} again, with another {value}; take one of its lines out")
    return values
