"""The synthetic corpus: speech of random espeak-ng voices in the folder layout of VoxCeleb.

Every split has its own speakers. Each session has its own microphone, room and background noise, so
that a network must tell voices apart, not sessions. Everything follows from the seed.
"""

import itertools
import math
import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from numpy.random import Generator

from speakerquant import schema_versions
from speakerquant.audio.disturbance import (
    mix_at_snr,
    normalize_peak,
    pass_channel,
    random_channel,
    random_noise,
    random_room,
    reverberate,
)
from speakerquant.audio.waveform import Waveform, resample
from speakerquant.cache import Cache
from speakerquant.corpus.recordings import find_recordings, speaker_from_path
from speakerquant.corpus.speech_synthesis import (
    Synthesizer,
    Voice,
    import_espeak,
    random_sentence,
    random_voice,
)
from speakerquant.corpus.trials import write_trials
from speakerquant.errors import UserError
from speakerquant.files import digest
from speakerquant.progress import track

SAMPLE_RATE = 16000
TRIALS_FILE = "trials.txt"
_MOST_PAIRS = 200_000  # of a list, target trials not counted


@dataclass(frozen=True)
class Split:
    """A part of the corpus.

    Attributes:
        name: Prefix of its speakers' names, so that parts never share a speaker.
        num_speakers: Number of speakers.
        num_sessions: Number of sessions of each speaker.
        num_utterances: Number of utterances of each session.
    """

    name: str
    num_speakers: int
    num_sessions: int
    num_utterances: int


TRAIN = Split("train", num_speakers=600, num_sessions=4, num_utterances=3)
CALIBRATION = Split("calibration", num_speakers=32, num_sessions=2, num_utterances=1)
ROUNDING = Split("rounding", num_speakers=200, num_sessions=4, num_utterances=1)
DEVELOPMENT = Split("development", num_speakers=30, num_sessions=5, num_utterances=2)
TEST = Split("test", num_speakers=40, num_sessions=6, num_utterances=2)


def synthesize_split(split: Split, seed: int, cache: Cache) -> Path:
    """Return the folder of the split's recordings (``speaker/session/utterance.wav``) and its ``trials.txt``.

    It is generated in parallel on first use; a generation that is killed leaves nothing behind.

    Raises:
        UserError: espeak-ng is not installed, or the seed is negative.
    """
    if seed < 0:
        raise UserError(f"seed={seed} of the synthetic corpus: must not be negative")
    key = digest(schema_versions.CORPUS, asdict(split), seed)
    return cache.get("synthetic", f"{split.name}-{key}", partial(_generate, split=split, seed=seed))


def _generate(folder: Path, split: Split, seed: int) -> None:
    import_espeak()
    folder.mkdir()
    generate_speaker = partial(_generate_speaker, folder=folder, split=split, seed=seed)
    with ThreadPoolExecutor(
        os.cpu_count()
    ) as pool:  # synthesis and filters run outside the interpreter's lock
        speakers = pool.map(generate_speaker, range(split.num_speakers))
        for _ in track(speakers, f"synthetic {split.name} speakers", total=split.num_speakers):
            pass
    _write_pairs(folder)


def _generate_speaker(index: int, folder: Path, split: Split, seed: int) -> None:
    rng = np.random.default_rng([seed, *split.name.encode(), index])
    voice = random_voice(rng)
    with Synthesizer() as synthesizer:
        for session in range(split.num_sessions):
            session_folder = folder / f"{split.name}{index:04d}" / f"session{session}"
            session_folder.mkdir(parents=True)
            session_voice = _mood(voice, rng)
            conditions = _Conditions.draw(rng)
            for utterance in range(split.num_utterances):
                speech = synthesizer.speak(random_sentence(rng), session_voice)
                recording = conditions.record(resample(speech, synthesizer.sample_rate, SAMPLE_RATE), rng)
                soundfile.write(
                    session_folder / f"{utterance:05d}.wav", recording, SAMPLE_RATE, subtype="PCM_16"
                )


def _mood(voice: Voice, rng: Generator) -> Voice:
    """Vary the voice of a speaker as from day to day: in pitch, intonation and speed."""
    return replace(
        voice,
        pitch=voice.pitch * rng.uniform(0.92, 1.09),
        pitch_range=voice.pitch_range * rng.uniform(0.8, 1.25),
        words_per_minute=int(voice.words_per_minute * rng.uniform(0.9, 1.1)),
    )


@dataclass(frozen=True)
class _Conditions:
    """The recording conditions of one session: its room, its channel and its noise level."""

    room: Waveform
    channel: Waveform
    snr_db: float

    @classmethod
    def draw(cls, rng: Generator) -> "_Conditions":
        return cls(random_room(rng, SAMPLE_RATE), random_channel(rng, SAMPLE_RATE), rng.uniform(5.0, 25.0))

    def record(self, speech: Waveform, rng: Generator) -> Waveform:
        heard = pass_channel(reverberate(speech, self.room), self.channel)
        return normalize_peak(mix_at_snr(heard, random_noise(rng, len(heard)), self.snr_db))


def _write_pairs(folder: Path) -> None:
    """Write the pairs of recordings but those of one session, which share microphone and room.

    All target trials are written, and of very many others some at random.
    """
    recordings = find_recordings(folder)
    share = _MOST_PAIRS / math.comb(len(recordings), 2)
    generator = random.Random(0)

    def is_written(left: str, right: str) -> bool:
        if Path(left).parent == Path(right).parent:
            return False
        return speaker_from_path(left) == speaker_from_path(right) or share >= 1 or generator.random() < share

    pairs = (pair for pair in itertools.combinations(recordings, 2) if is_written(*pair))
    write_trials(
        folder / TRIALS_FILE,
        ((speaker_from_path(left) == speaker_from_path(right), left, right) for left, right in pairs),
    )
