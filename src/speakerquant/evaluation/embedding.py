"""Speaker embeddings of whole recordings."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from speakerquant.audio.features import FeatureArray
from speakerquant.engine.base import Engine
from speakerquant.progress import track

Embeddings = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TimedEmbeddings:
    """Embeddings ``[num_recordings, dim]``, and the seconds that they took with all requests in flight."""

    embeddings: Embeddings
    seconds: float


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


def read_embeddings(journal: Path, dim: int) -> TimedEmbeddings:
    """What :func:`embed_with_engine` wrote."""
    entries = np.fromfile(journal, _entry(dim))
    return TimedEmbeddings(entries["embedding"], float(entries["seconds"].sum()))


def _entry(dim: int) -> np.dtype[np.void]:
    return np.dtype([("embedding", np.float32, (dim,)), ("seconds", np.float64)])


def _num_whole(entries: npt.NDArray[np.void]) -> int:
    """Entries before the first that never reached the disk: a machine that goes down leaves zeros."""
    written = entries["seconds"] > 0
    return len(written) if written.all() else int(np.argmin(written))
