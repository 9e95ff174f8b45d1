"""Training batches.

Each is a function of the seed and its number alone, so that a training can go on at any number.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from torch.utils.data import Dataset

from speakerquant.audio.disturbance import change_speed
from speakerquant.audio.waveform import Waveform, read_random_part
from speakerquant.corpus.recordings import find_recordings, speaker_from_path
from speakerquant.errors import UserError
from speakerquant.files import digest
from speakerquant.training.augmentation import Augmentation

log = logging.getLogger(__name__)

SPEEDS = (100, 90, 110)
"""Playing speeds in percent of the original; a speaker counts as another speaker at each of them."""

Batch = tuple[Waveform, npt.NDArray[np.int64]]
"""Waveforms ``[B, samples]`` and speaker labels ``[B]``."""


@dataclass(frozen=True)
class SpeechSource:
    """A source of training speech.

    Attributes:
        root: Folder of recordings, with a subfolder for each speaker.
        share: Share of every batch that comes from this source.
    """

    root: Path
    share: float


class TrainingBatches(Dataset[Batch]):
    """The training batches by their number.

    Speakers are drawn evenly within each source, whatever the number of their recordings.

    Attributes:
        crop_samples: Length of a crop.
        speakers: Names of the speakers of each source.
        speakers_digest: Digest of the sources' speakers and names of their recordings, whose numbers are the
            classes; folders may move, and recordings be converted.

    Raises:
        UserError: a source has no recordings, a single speaker, or no crop in a batch; or a batch has fewer
            than two crops.
    """

    def __init__(
        self,
        sources: Sequence[SpeechSource],
        augmentation: Augmentation,
        *,
        sample_rate: int,
        batch_size: int,
        crop_seconds: float,
        seed: int,
    ) -> None:
        if batch_size < 2:
            raise UserError(f"batch_size={batch_size}: give at least 2, which batch normalisation needs")
        if not 0 < crop_seconds < math.inf:
            raise UserError(f"crop_seconds={crop_seconds}: give a number above 0")
        names = [_names_by_speaker(source.root) for source in sources]
        self.speakers = [frozenset(of_source) for of_source in names]
        self.speakers_digest = digest([_without_suffixes(of_source) for of_source in names])
        self._speakers = [
            [[source.root / name for name in of_speaker] for of_speaker in of_source.values()]
            for source, of_source in zip(sources, names, strict=True)
        ]
        self._first_label = np.cumsum([0, *map(len, self._speakers)]) * len(SPEEDS)
        self._counts = _split(batch_size, [source.share for source in sources])
        if 0 in self._counts:
            without = sources[self._counts.index(0)]
            raise UserError(
                f"batch_size={batch_size}: has no place for a share of {without.share:g}, which "
                f"training_data.synthetic_share leaves to {without.root}; raise one of them, or give it none"
            )
        self._augmentation = augmentation
        self._sample_rate = sample_rate
        self.crop_samples = int(crop_seconds * sample_rate)
        self._seed = seed

    @property
    def num_classes(self) -> int:
        """Number of classes: the speakers of all sources, times the speeds."""
        return int(self._first_label[-1])

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng([self._seed, number])
        crops: list[Waveform] = []
        labels: list[int] = []
        for source, count in enumerate(self._counts):
            for _ in range(count):
                speaker = int(rng.integers(len(self._speakers[source])))
                speed = int(rng.integers(len(SPEEDS)))
                recordings = self._speakers[source][speaker]
                crop = self._read_crop(recordings[rng.integers(len(recordings))], SPEEDS[speed], rng)
                crops.append(self._augmentation(crop, rng))
                labels.append(int(self._first_label[source]) + speaker * len(SPEEDS) + speed)
        return np.stack(crops), np.array(labels, dtype=np.int64)

    def _read_crop(self, path: Path, speed: int, rng: Generator) -> Waveform:
        needed = -(-self.crop_samples * speed // 100)
        waveform = change_speed(read_random_part(path, needed, self._sample_rate, rng), speed)
        return waveform[: self.crop_samples]


def _names_by_speaker(root: Path) -> dict[str, list[str]]:
    speakers: dict[str, list[str]] = {}
    for name in find_recordings(root):
        speakers.setdefault(speaker_from_path(name), []).append(name)
    log.info("%s: %d recordings of %d speakers", root, sum(map(len, speakers.values())), len(speakers))
    if len(speakers) < 2:
        raise UserError(
            f"{root}: all recordings seem to be of one speaker, {min(speakers)}; name the folder that has a "
            "subfolder for each"
        )
    return speakers


def _without_suffixes(names: Mapping[str, Sequence[str]]) -> list[tuple[str, list[str]]]:
    return [
        (speaker, [name.rpartition(".")[0] for name in of_speaker]) for speaker, of_speaker in names.items()
    ]


def _split(total: int, shares: Sequence[float]) -> list[int]:
    """Split ``total`` into whole parts that are proportional to ``shares``."""
    bounds = np.round(np.cumsum([0.0, *shares]) / sum(shares) * total).astype(int)
    return [int(count) for count in np.diff(bounds)]
