"""Training augmentation: random rooms, channels and noise for every crop."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator

from speakerquant.audio.decoding import unusable
from speakerquant.audio.disturbance import (
    mix_at_snr,
    normalize_peak,
    pass_channel,
    random_channel,
    random_noise,
    random_room,
    reverberate,
)
from speakerquant.audio.waveform import Waveform, read_random_part, read_waveform
from speakerquant.corpus.recordings import find_recordings
from speakerquant.files import digest
from speakerquant.training.hyperparameters import AugmentationConfig


class Augmentation:
    """Random disturbances of waveforms ``[samples]``, drawn from the caller's generator."""

    def __init__(self, config: AugmentationConfig, sample_rate: int) -> None:
        self._config = config
        self._sample_rate = sample_rate
        self._noises = _paths(config.noise_root)
        self._rooms = _paths(config.room_root)

    @property
    def folders(self) -> Mapping[str, str]:
        """What there is in the folders of noises and of rooms, wherever these lie, by their settings."""
        roots = {"noise_root": self._config.noise_root, "room_root": self._config.room_root}
        return {
            f"augmentation.{name}": _in_words(root, paths)
            for (name, root), paths in zip(roots.items(), (self._noises, self._rooms), strict=True)
        }

    def __call__(self, waveform: Waveform, rng: Generator) -> Waveform:
        config = self._config
        if rng.random() < config.room_probability:
            waveform = reverberate(waveform, self._room(rng))
        if rng.random() < config.channel_probability:
            waveform = pass_channel(waveform, random_channel(rng, self._sample_rate))
        if rng.random() < config.noise_probability:
            snr_db = rng.uniform(config.min_snr_db, config.max_snr_db)
            waveform = mix_at_snr(waveform, self._noise(rng, len(waveform)), snr_db)
        return normalize_peak(waveform)

    def _room(self, rng: Generator) -> Waveform:
        if not self._rooms:
            return random_room(rng, self._sample_rate)
        path = self._rooms[int(rng.integers(len(self._rooms)))]
        room = read_waveform(path, self._sample_rate)
        direct = int(np.abs(room).argmax())
        if room[direct] == 0:
            raise unusable(path, "silent throughout, and no impulse response")
        from_direct: Waveform = room[direct:] / room[direct]
        return from_direct

    def _noise(self, rng: Generator, length: int) -> Waveform:
        if not self._noises:
            return random_noise(rng, length)
        path = self._noises[int(rng.integers(len(self._noises)))]
        return read_random_part(path, length, self._sample_rate, rng)


def _in_words(root: Path | None, paths: Sequence[Path]) -> str:
    if root is None:
        return "null"
    return f"{len(paths)} recordings ({digest([path.relative_to(root).as_posix() for path in paths])[:8]})"


def _paths(root: Path | None) -> Sequence[Path]:
    return [root / name for name in find_recordings(root)] if root else []
