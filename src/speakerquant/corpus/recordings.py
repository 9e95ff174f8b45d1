"""Finds recordings and their speakers, in folders, Kaldi's ``wav.scp`` or SpeechBrain's CSV files."""

import csv
import os
import re
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from speakerquant.audio.decoding import EXTENSIONS
from speakerquant.corpus.lists import check_names, fields_of, read_lines, read_mapping, recording_name
from speakerquant.errors import UserError

SpeakerOf = Callable[[str], str]

_VOXCELEB_SPEAKER = re.compile(r"id\d{5}")


@dataclass(frozen=True)
class Recordings:
    """The recordings of a folder or file, by name.

    Attributes:
        source: The folder or file.
        path_of: Gives the path of a recording, which need not exist.
        names: Lists the names of all recordings.
        speaker_of: Gives the speaker of a recording.
    """

    source: Path
    path_of: Callable[[str], Path]
    names: Callable[[], Sequence[str]]
    speaker_of: SpeakerOf

    def identity_of(self, name: str) -> Hashable:
        """What is equal for all names of one recording: links, an m4a beside its wav, another case."""
        try:
            return file_identity(self.path_of(name))
        except UserError:  # no table has it; whoever needs the file says so
            return name


def open_recordings(source: Path | str, speaker_of: SpeakerOf | None = None) -> Recordings:
    """Open the recordings of a folder, of a Kaldi ``wav.scp`` or of a SpeechBrain CSV file.

    Args:
        source: The folder or file.
        speaker_of: Gives the speaker of a recording, in place of what the source tells.

    Raises:
        UserError: there is no such folder or file, or a line of it cannot be understood.
    """
    source = Path(source)
    if source.suffix == ".scp":
        return _of_table(source, _read_scp(source), speaker_of or speaker_from_path)
    if source.suffix == ".csv":
        paths, speakers = _read_csv(source)
        return _of_table(
            source, paths, speaker_of or (lambda name: speakers.get(name) or speaker_from_path(name))
        )
    return Recordings(
        source,
        lambda name: _in_folder(source, name),
        lambda: find_recordings(source),
        speaker_of or speaker_from_path,
    )


def _in_folder(root: Path, name: str) -> Path:
    """Return the path of a recording, whether it was listed before or after it was converted to wav."""
    path = root / name
    return converted if not is_file(path) and is_file(converted := root / _converted(name)) else path


def _converted(name: str) -> str:
    """What a recording was called before or after it was converted to wav."""
    stem, dot, suffix = name.rpartition(".")
    return stem + dot + {"wav": "m4a", "m4a": "wav"}.get(suffix, suffix)


def find_recordings(root: Path) -> list[str]:
    """Return every audio file below ``root`` (links followed) as a path relative to it, sorted.

    Hidden ones are left out, such as macOS's companions ``._a.wav`` on other disks. Where one was converted
    to a wav beside it, only the wav is listed.

    Raises:
        UserError: there is no such folder, no recording in it, or one whose name is not UTF-8.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder of recordings; check the path")
    names: list[str] = []
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if not (_is_hidden(name) or _leads_back(folder, name))]
        present = set(files)
        names += (
            (Path(folder) / file).relative_to(root).as_posix()
            for file in files
            if (suffix := Path(file).suffix).lower() in EXTENSIONS
            and not _is_hidden(file)
            and not (suffix.lower() != ".wav" and file.removesuffix(suffix) + ".wav" in present)
        )
    names.sort()
    for name in names:
        if not name.isascii() and not _is_utf8(name):
            raise UserError(f"{root}: the name of {name!a} is not UTF-8; rename the recording")
    if not names:
        raise UserError(
            f"{root}: no recording in this folder, as no name ends in {', '.join(sorted(EXTENSIONS))}; name "
            "the folder that holds them"
        )
    return names


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _leads_back(folder: str, name: str) -> bool:
    """Tell whether a subfolder is a link to a folder that it lies in."""
    path = os.path.join(folder, name)  # noqa: PTH118 (a million times for a large corpus)
    return os.path.islink(path) and Path(folder).resolve().is_relative_to(Path(path).resolve())  # noqa: PTH114


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_file(path: Path) -> bool:
    """Tell whether there is such a file, also for names that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113


def file_identity(path: Path) -> Hashable:
    """What is equal for all paths of one file, and the path itself where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 (a million times for a large corpus)
    except (OSError, ValueError):
        return path
    return found.st_dev, found.st_ino, found.st_size


def read_list(path: Path, recordings: Recordings) -> list[str]:
    """Read the names of recordings, one a line.

    Args:
        path: The list.
        recordings: What it names.

    Raises:
        UserError: the file is missing or empty, a recording comes again, or lies outside the root.
    """
    lines: dict[str, int] = {}
    known: dict[Hashable, str] = {}
    for number, line in enumerate(read_lines(path, "the list of recordings"), 1):
        if not line.strip():
            continue
        fields = fields_of(line)
        name = recording_name(fields[0] if len(fields) == 1 else line.strip())  # blanks may stand unquoted
        check_names([name], path)
        first = known.setdefault(recordings.identity_of(name), name)
        if first in lines:
            other = "" if first == name else f", as {first}"
            raise UserError(
                f"{path}:{number}: {name} again, as in line {lines[first]}{other}; take one of them out"
            )
        lines[name] = number
    if not lines:
        raise UserError(f"{path}: no recording in the list; write one a line")
    return list(lines)


def speaker_from_path(recording: str) -> str:
    """Return the first path component, or the name of a file in the root up to its first ``-`` or ``_``.

    VoxCeleb's speakers (``id10270``) are recognised in any component, as below ``dev/aac``.
    """
    parts = PurePosixPath(recording).parts
    for part in parts[:-1]:
        if _VOXCELEB_SPEAKER.fullmatch(part):
            return part
    return parts[0] if len(parts) > 1 else re.split(r"[-_]|\.[^.]*$", parts[0], maxsplit=1)[0]


def speaker_from_mapping(path: Path) -> SpeakerOf:
    """Read the speakers from a file of lines ``recording speaker``, such as Kaldi's ``utt2spk``.

    Raises:
        UserError: as :func:`read_mapping`, or a recording is not in it.
    """
    speakers = read_mapping(path, "speaker", "the speaker mapping; check data.speakers")

    def speaker_of(recording: str) -> str:
        speaker = speakers.get(recording) or speakers.get(_converted(recording))
        if speaker is None:
            raise UserError(f"{path}: no speaker for recording {recording}; add a line for it")
        return speaker

    return speaker_of


def _of_table(source: Path, paths: dict[str, Path], speaker_of: SpeakerOf) -> Recordings:
    if not paths:
        raise UserError(f"{source}: no recording in the list; write one a line")

    def path_of(name: str) -> Path:
        try:
            return paths[name]
        except KeyError:
            raise UserError(f"{source}: has no recording {name}; add it, or take it off the list") from None

    return Recordings(source, path_of, lambda: sorted(paths), speaker_of)


def _read_scp(source: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for number, line in enumerate(read_lines(source, "the list of recordings"), 1):
        fields = line.split(maxsplit=1)
        if not fields:
            continue
        if len(fields) != 2:
            raise UserError(f"{source}:{number}: no path; write 'name path'")
        name, path = recording_name(fields[0]), fields[1].strip()
        if path.endswith("|") or path.startswith("|"):
            raise UserError(f"{source}:{number}: a command, which is never run; write 'name path' of a file")
        if name in paths:
            raise UserError(f"{source}:{number}: {name} again; take one of its lines out")
        paths[name] = listed_path(source, path)
    return paths


def listed_path(source: Path, path: str) -> Path:
    """A relative path in a list is sought beside the list, then, as Kaldi has it, in the working folder."""
    beside = source.parent / path
    return Path(path) if not is_file(beside) and is_file(Path(path)) else beside


def _read_csv(source: Path) -> tuple[dict[str, Path], dict[str, str]]:
    reader = csv.DictReader(read_lines(source, "the list of recordings"), skipinitialspace=True, strict=True)
    paths: dict[str, Path] = {}
    speakers: dict[str, str] = {}
    whole: set[Path] = set()
    try:
        for row in reader:
            if problem := _problem_of_row(row, paths, whole):
                raise UserError(f"{source}:{reader.line_num}: {problem}")
            name = recording_name(row["ID"])
            paths[name] = listed_path(source, row["wav"])
            whole.add(Path(row["wav"]))
            if row.get("spk_id"):
                speakers[name] = row["spk_id"]
    except csv.Error as error:
        raise UserError(f"{source}:{reader.reader.line_num}: not a line of CSV ({error})") from None
    return paths, speakers


def _problem_of_row(row: Mapping[str, str], known: Container[str], whole: Container[Path]) -> str | None:
    if not row.get("ID") or not row.get("wav"):
        return "no ID or wav; write SpeechBrain's columns ID, wav and spk_id"
    if "$" in row["wav"]:
        return f"{row['wav']}: write the path without variables"
    if recording_name(row["ID"]) in known:
        return f"{row['ID']} again; take one of its lines out"
    if Path(row["wav"]) in whole:
        return f"{row['wav']} again; recordings are taken whole, not from start to stop: name each once"
    return None
