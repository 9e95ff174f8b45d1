"""Folders of recordings and the speakers in them."""

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from speakerquant.audio.waveform import EXTENSIONS
from speakerquant.errors import UserError

SpeakerOf = Callable[[str], str]


def find_recordings(root: Path) -> list[str]:
    """Every wav and flac file below ``root`` (links followed) as a path relative to it, sorted.

    Raises:
        UserError: there is no such folder, or no recording in it.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder of recordings; check the path")
    names = sorted(
        (Path(folder) / file).relative_to(root).as_posix()
        for folder, _, files in os.walk(root, followlinks=True)
        for file in files
        if Path(file).suffix.lower() in EXTENSIONS
    )
    if not names:
        raise UserError(f"{root}: no wav or flac recording in this folder; name the folder that holds them")
    return names


def speaker_from_path(recording: str) -> str:
    """First path component; for a file directly in the root, its name up to the first ``-`` or ``_``."""
    parts = PurePosixPath(recording).parts
    return parts[0] if len(parts) > 1 else re.split(r"[-_]|\.[^.]*$", parts[0], maxsplit=1)[0]


def speaker_from_mapping(path: Path) -> SpeakerOf:
    """Speakers from a file of lines ``recording speaker``.

    Raises:
        UserError: the file is missing, a line has not two fields, or a recording is not in it.
    """
    speakers: dict[str, str] = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: cannot read the speaker mapping; check data.speakers") from None
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
