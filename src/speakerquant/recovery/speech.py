"""Pieces of speech to learn from, and others to judge by."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from speakerquant.audio.features import CachedFeatures, FeatureArray
from speakerquant.errors import UserError

_SECONDS = 3.0
_HELD_OUT = 10  # one of so many recordings


class Pieces:
    """Batches of pieces of recordings, ``[batch_size, n_mels, T]``; too short a recording is repeated.

    The last tenth of the recordings is held out: other speakers, where folders are named by speaker.

    Args:
        speech: The recordings.
        fewest: Fewest frames of a piece.
        batch_size: Pieces in a batch.
        seed: Of the choice of pieces.

    Raises:
        UserError: there is no recording to judge by beside one to learn from.
    """

    def __init__(self, speech: CachedFeatures, fewest: int, batch_size: int, seed: int) -> None:
        count = len(speech.features)
        if count < 2:
            raise UserError(
                f"recovery: needs a recording to learn from and another to judge by, and there is {count}; "
                "raise rounding.num_recordings, or name a folder of speech, rounding.root"
            )
        self._features = speech.features
        self._frames = max(round(_SECONDS * speech.frames_per_second), fewest)
        self._batch_size, self._seed = batch_size, seed
        self._num_learned = count - max(1, count // _HELD_OUT)

    def __getitem__(self, number: int) -> Tensor:
        """The batch of that number, which depends on seed and number alone."""
        generator = np.random.default_rng([self._seed, number])
        chosen = generator.integers(self._num_learned, size=self._batch_size)
        return self._batch([int(index) for index in chosen], generator)

    def held_out(self) -> Iterator[Tensor]:
        """Batches of one piece of each recording that is held out, always the same."""
        generator = np.random.default_rng(self._seed)
        rest = range(self._num_learned, len(self._features))
        for start in range(0, len(rest), self._batch_size):
            yield self._batch(rest[start : start + self._batch_size], generator)

    def _batch(self, recordings: Iterable[int], generator: Generator) -> Tensor:
        pieces = [self._piece(self._features[index], generator) for index in recordings]
        return torch.from_numpy(np.stack(pieces))

    def _piece(self, recording: FeatureArray, generator: Generator) -> FeatureArray:
        length = recording.shape[1]
        start = int(generator.integers(max(length - self._frames, 0) + 1))
        return recording[:, (start + np.arange(self._frames)) % length]
