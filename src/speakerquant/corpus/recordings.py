"""Where recordings are and who speaks in them: folders, Kaldi's wav.scp, SpeechBrain's CSV."""

import csv
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from speakerquant.audio.waveform import EXTENSIONS
from speakerquant.errors import UserError

SpeakerOf = Callable[[str], str]


@dataclass(frozen=True)
class Recordings:
    """Recordings by name.

    Attributes:
        source: The folder or file that they are from.
        path_of: Path of a recording; it need not exist.
        names: Lists all of them.
        speaker_of: Who speaks, as far as the source tells.
    """

    source: Path
    path_of: Callable[[str], Path]
    names: Callable[[], Sequence[str]]
    speaker_of: SpeakerOf


def open_recordings(source: Path) -> Recordings:
    """The recordings of a folder, of a Kaldi ``wav.scp`` or of a SpeechBrain CSV file.

    Raises:
        UserError: there is no such folder or file, or a line of it cannot be understood.
    """
    if source.suffix == ".scp":
        return _of_table(source, _read_scp(source), speakers={})
    if source.suffix == ".csv":
        paths, speakers = _read_csv(source)
        return _of_table(source, paths, speakers)
    return Recordings(source, source.joinpath, lambda: find_recordings(source), speaker_from_path)


def find_recordings(root: Path) -> list[str]:
    """Every wav, flac and m4a file below ``root`` (links followed) as a path relative to it, sorted.

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
        raise UserError(
            f"{root}: no wav, flac or m4a recording in this folder; name the folder that holds them"
        )
    return names


def read_list(path: Path) -> list[str]:
    """Names of recordings, one a line.

    Raises:
        UserError: the file is missing or empty.
    """
    names = [line.strip() for line in _lines(path, "the list of recordings") if line.strip()]
    if not names:
        raise UserError(f"{path}: no recording in the list; write one a line")
    return names


def speaker_from_path(recording: str) -> str:
    """First path component; for a file directly in the root, its name up to the first ``-`` or ``_``."""
    parts = PurePosixPath(recording).parts
    return parts[0] if len(parts) > 1 else re.split(r"[-_]|\.[^.]*$", parts[0], maxsplit=1)[0]


def speaker_from_mapping(path: Path) -> SpeakerOf:
    """Speakers from a file of lines ``recording speaker``, such as Kaldi's ``utt2spk``.

    Raises:
        UserError: the file is missing, a line has not two fields, or a recording is not in it.
    """
    speakers: dict[str, str] = {}
    for number, line in enumerate(_lines(path, "the speaker mapping; check data.speakers"), 1):
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


def _of_table(source: Path, paths: dict[str, Path], speakers: dict[str, str]) -> Recordings:
    def path_of(name: str) -> Path:
        try:
            return paths[name]
        except KeyError:
            raise UserError(f"{source}: has no recording {name}; add it, or take it off the list") from None

    def speaker_of(name: str) -> str:
        return speakers.get(name) or speaker_from_path(name)

    return Recordings(source, path_of, lambda: sorted(paths), speaker_of)


def _read_scp(source: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for number, line in enumerate(_lines(source, "the list of recordings"), 1):
        name, _, path = line.strip().partition(" ")
        path = path.strip()
        if path.endswith("|") or path.startswith("|"):
            raise UserError(f"{source}:{number}: a command, which is never run; write 'name path' of a file")
        if not path:
            raise UserError(f"{source}:{number}: no path; write 'name path'")
        paths[name] = source.parent / path
    return paths


def _read_csv(source: Path) -> tuple[dict[str, Path], dict[str, str]]:
    rows = list(csv.DictReader(_lines(source, "the list of recordings"), skipinitialspace=True))
    paths: dict[str, Path] = {}
    speakers: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if not row.get("ID") or not row.get("wav"):
            raise UserError(
                f"{source}:{number}: no ID or wav; write SpeechBrain's columns ID, wav and spk_id"
            )
        if "$" in row["wav"]:
            raise UserError(f"{source}:{number}: {row['wav']}: write the path without variables")
        paths[row["ID"]] = source.parent / row["wav"]
        if row.get("spk_id"):
            speakers[row["ID"]] = row["spk_id"]
    return paths, speakers


def _lines(path: Path, what: str) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: cannot read {what}") from None
