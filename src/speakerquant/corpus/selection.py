"""Checks the recordings of a corpus, and chooses recordings to calibrate on."""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from speakerquant.audio.waveform import inspect_waveform
from speakerquant.corpus.recordings import Recordings
from speakerquant.errors import UserError, enough_memory
from speakerquant.progress import track

_SHORTEST_SECONDS = 0.05  # fewer frames than networks with pooling take


@dataclass
class Findings:
    """The findings of :func:`check_recordings`.

    Attributes:
        num_usable: Number of recordings that exist, can be read whole, have the sample rate, and are of use.
        problems: One line for each of the others that says what is wrong with it.
        seconds: How long a recording is, by name, where it can be read.
    """

    num_usable: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def check_recordings(
    recordings: Recordings, names: Sequence[str], sample_rate: int, channel: int | None = None
) -> Findings:
    """Read every recording, one channel of it or the average, and go on after those that cannot be read."""
    findings = Findings()
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda name: _read(recordings, name, sample_rate, channel), names)
        for name, (seconds, problem) in zip(names, track(read, "recordings", total=len(names)), strict=True):
            if seconds is not None:
                findings.seconds[name] = seconds
            if problem is None:
                findings.num_usable += 1
            else:
                findings.problems.append(problem)
    return findings


def balanced_choice(
    recordings: Recordings, excluded_speakers: set[str], num_recordings: int, seed: int
) -> list[str]:
    """Choose recordings of as many speakers as possible, and about as many of each (plus or minus one).

    Raises:
        UserError: speakers that are not excluded have fewer recordings.
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
    """Yield the first recordings of all speakers, then the second ones, and so on."""
    for number in range(max(map(len, speakers))):
        yield [names[number] for names in speakers if number < len(names)]


def _read(
    recordings: Recordings, name: str, sample_rate: int, channel: int | None
) -> tuple[float | None, str | None]:
    """How long a recording is in seconds, and what is wrong with it; none where it cannot be read."""
    try:
        path = recordings.path_of(name)
        with enough_memory(lambda: f"{path}: needs"):
            found = inspect_waveform(path, sample_rate, channel)
    except UserError as error:
        return None, str(error)
    seconds = len(found.waveform) / sample_rate
    too_short = seconds < _SHORTEST_SECONDS and f"{1000 * seconds:.0f} ms, too short for a network"
    wrong_rate = found.stored_rate != sample_rate and f"{found.stored_rate} Hz, not {sample_rate}"
    problems = [problem for problem in (wrong_rate, too_short, found.doubt) if problem]
    return seconds, f"{path}: {'; '.join(problems)}" if problems else None
