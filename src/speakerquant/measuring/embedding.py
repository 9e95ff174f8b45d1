"""Speaker embeddings of whole recordings."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.audio.features import FeatureArray
from speakerquant.cache import Cache
from speakerquant.engine.base import Engine
from speakerquant.errors import UserError
from speakerquant.progress import track
from speakerquant.statistics.scores import Embeddings

EMBEDDINGS = "embeddings"
"""Kind of the cache's entries with embeddings."""


@dataclass(frozen=True)
class TimedEmbeddings:
    """Embeddings of recordings.

    Attributes:
        embeddings: ``[num_recordings, dim]``.
        seconds: How long they took with all requests in flight.
        name: Of the file that keeps them.
    """

    embeddings: Embeddings
    seconds: float
    name: str


def check_frames(network: SpeakerNetwork, recordings: Sequence[Path], num_frames: Sequence[int]) -> None:
    """Refuse recordings of fewer or more frames than the network takes.

    Raises:
        UserError: there is one; the message names the shortest or the longest.
    """
    shortest, longest = int(np.argmin(num_frames)), int(np.argmax(num_frames))
    fewest, most = network.min_frames, network.most_frames(num_frames[longest])
    if num_frames[shortest] < fewest:
        raise UserError(
            f"{recordings[shortest]}: {num_frames[shortest]} frames, and the network needs {fewest}; "
            "take the recording off the list"
        )
    if num_frames[longest] > most:
        raise UserError(
            f"{recordings[longest]}: {num_frames[longest]} frames, and the network takes {most} at most; "
            "cut the recording, take it off the list, or give a network of any length"
        )


def embed_with_network(network: nn.Module, features: Sequence[FeatureArray]) -> Embeddings:
    """Embeddings ``[num_recordings, dim]`` computed by PyTorch, one recording ``[n_mels, T]`` at a time."""
    device = next(network.parameters()).device
    # cuDNN would round to TF32 on its own
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return np.concatenate(
            [network(torch.from_numpy(item).to(device)[None]).float().cpu().numpy() for item in features]
        )


def embed_with_engine(
    engine: Engine, features: Sequence[FeatureArray], dim: int, journal: Path, description: str
) -> None:
    """Add embeddings computed by an engine to a file, behind a progress bar, going on where the file ends.

    Args:
        engine: What embeds.
        features: One ``[n_mels, T]`` per recording.
        dim: Length of an embedding.
        journal: File that each embedding is added to as soon as there is one, for :func:`read_embeddings`; a
            process that was killed loses no more than those in flight.
        description: What the bar says.
    """
    entry = _entry(dim)
    journal.touch()
    with journal.open("r+b") as file:
        done = _num_whole(np.fromfile(file, entry))
        file.seek(done * entry.itemsize)
        file.truncate()
        rest = (features[index] for index in range(done, len(features)))
        start = time.perf_counter()
        for embedding in track(engine.embed_many(rest), description, total=len(features), completed=done):
            now = time.perf_counter()
            file.write(np.array((embedding, now - start), entry).tobytes())
            file.flush()
            start = now


def read_embeddings(journal: Path, num_recordings: int, dim: int) -> TimedEmbeddings:
    """What :func:`embed_with_engine` wrote.

    Raises:
        ValueError: the file has not an embedding for each recording.
    """
    entries = np.fromfile(journal, _entry(dim))
    if _num_whole(entries) != num_recordings:
        raise ValueError(f"{_num_whole(entries)} embeddings of {num_recordings}")
    return TimedEmbeddings(entries["embedding"], float(entries["seconds"].sum()), journal.name)


def kept_embeddings(cache: Cache, name: str, num_recordings: int, dim: int) -> Embeddings:
    """The embeddings of a cache's entry, by :attr:`TimedEmbeddings.name`.

    Raises:
        UserError: the cache has them no more.
    """
    kept = cache.find(EMBEDDINGS, name, lambda path: read_embeddings(path, num_recordings, dim))
    if kept is None:
        raise UserError(
            f"{cache.root}: has no embeddings {name}, which a recorded result refers to; hosts that share a "
            "front need one cache (cache.root), and where it was pruned another hydra.sweeper.study_name"
        )
    return kept.embeddings


def _entry(dim: int) -> np.dtype[np.void]:
    return np.dtype([("embedding", np.float32, (dim,)), ("seconds", np.float64)])


def _num_whole(entries: npt.NDArray[np.void]) -> int:
    """Entries before the first that never reached the disk: a machine that goes down leaves zeros."""
    written = entries["seconds"] > 0
    return len(written) if written.all() else int(np.argmin(written))
