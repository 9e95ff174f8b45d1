"""Which recordings of a corpus are usable, and which to calibrate on."""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from speakerquant.audio.waveform import read_waveform, stored_rate
from speakerquant.corpus.recordings import Recordings
from speakerquant.errors import UserError
from speakerquant.progress import track


@dataclass
class Findings:
    """What :func:`check_recordings` found.

    Attributes:
        num_usable: Recordings that are there, can be read whole, and have the rate.
        problems: What is wrong with each of the others, in one line.
    """

    num_usable: int = 0
    problems: list[str] = field(default_factory=list)


def check_recordings(recordings: Recordings, names: Sequence[str], sample_rate: int) -> Findings:
    """Read every recording; nothing stops at the first that cannot be read."""
    findings = Findings()
    with ThreadPoolExecutor() as pool:
        problems = pool.map(lambda name: _problem(recordings, name, sample_rate), names)
        for problem in track(problems, "recordings", total=len(names)):
            if problem is None:
                findings.num_usable += 1
            else:
                findings.problems.append(problem)
    return findings


def balanced_choice(
    recordings: Recordings, excluded_speakers: set[str], num_recordings: int, seed: int
) -> list[str]:
    """Recordings of as many speakers as can be, as many of each as of the others, give or take one.

    Raises:
        UserError: there are not that many of other speakers.
    """
    rng = random.Random(seed)
    by_speaker: dict[str, list[str]] = {}
    for name in recordings.names():
        speaker = recordings.speaker_of(name)
        if speaker not in excluded_speakers:
            by_speaker.setdefault(speaker, []).append(name)
    available = sum(map(len, by_speaker.values()))
    if not 0 < num_recordings <= available:
        raise UserError(
            f"{recordings.source}: {num_recordings} recordings asked for, and {available} are of speakers "
            "that are not in the trial list; name another folder or number"
        )
    speakers = list(by_speaker.values())
    rng.shuffle(speakers)
    for names in speakers:
        rng.shuffle(names)
    chosen = [name for round_ in _rounds(speakers) for name in round_]
    return sorted(chosen[:num_recordings])


def _rounds(speakers: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """First recordings of all speakers, then second ones, and so on."""
    for number in range(max(map(len, speakers))):
        yield [names[number] for names in speakers if number < len(names)]


def _problem(recordings: Recordings, name: str, sample_rate: int) -> str | None:
    try:
        path = recordings.path_of(name)
        read_waveform(path, sample_rate)
        rate = stored_rate(path)
    except UserError as error:
        return str(error)
    return None if rate in (None, sample_rate) else f"{path}: {rate} Hz, not {sample_rate}"
