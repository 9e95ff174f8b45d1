"""Folders of recordings and the speakers in them."""

import re
from collections.abc import Callable
from pathlib import Path

from speakerquant.audio.waveform import EXTENSIONS
from speakerquant.errors import UserError

SpeakerOf = Callable[[str], str]


def find_recordings(root: Path) -> list[str]:
    """Every wav and flac file below ``root`` as a path relative to it, sorted.

    Raises:
        UserError: there is no such folder, or no recording in it.
    """
    check_folder(root)
    names = sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS
    )
    if not names:
        raise UserError(f"{root}: no wav or flac recording in this folder; name the folder that holds them")
    return names


def check_folder(root: Path) -> None:
    """Raises UserError unless ``root`` is a folder."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder of recordings; check the path")


def speaker_from_path(recording: str) -> str:
    """First path component; for a file directly in the root, its name up to the first ``-`` or ``_``."""
    first, _, rest = recording.partition("/")
    return first if rest else re.split(r"[-_]|\.[^.]*$", first, maxsplit=1)[0]


def speaker_from_mapping(path: Path) -> SpeakerOf:
    """Speakers from a file of lines ``recording speaker``.

    Raises:
        UserError: the file is missing, a line has not two fields, or a recording is not in it.
    """
    speakers: dict[str, str] = {}
    try:
        lines = path.read_text().splitlines()
    except OSError:
        raise UserError(f"{path}: no such speaker mapping; check data.speakers") from None
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if len(fields) != 2:
            raise UserError(f"{path}:{number}: {len(fields)} fields; write 'recording speaker'")
        speakers[fields[0]] = fields[1]

    def speaker_of(recording: str) -> str:
        try:
            return speakers[recording]
        except KeyError:
            raise UserError(f"{path}: no speaker for recording {recording}; add a line for it") from None

    return speaker_of
