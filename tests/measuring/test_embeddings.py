"""Embeddings that outlive the process that made them."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import Subject, write_model
from processes import Program

from speakerquant.engine.base import Engine
from speakerquant.engine.onnxruntime.onnxruntime_engine import OnnxRuntimeBuilder
from speakerquant.measuring.embedding import TimedEmbeddings, embed_with_engine, read_embeddings

KILLED_AT = 30


class Recordings(list[npt.NDArray[np.float32]]):
    """Remembers what was read, and dies where it is told to."""

    def __init__(self, recordings: list[npt.NDArray[np.float32]], killed_at: int | None = None) -> None:
        super().__init__(recordings)
        self.read: list[int] = []
        self._killed_at = killed_at

    def __getitem__(self, index):
        if index == self._killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.read.append(index)
        return super().__getitem__(index)


@pytest.fixture
def engine(small: Subject, tmp_path: Path) -> Iterator[Engine]:
    write_model(small.network, tmp_path / "model.onnx")
    with OnnxRuntimeBuilder().build(tmp_path / "model.onnx") as built:
        built.save(tmp_path / "engine")
        yield built


def embedded(
    engine: Engine, recordings: list[npt.NDArray[np.float32]], dim: int, journal: Path
) -> TimedEmbeddings:
    embed_with_engine(engine, recordings, dim, journal, "embeddings")
    return read_embeddings(journal, len(recordings), dim)


def embed_until_killed(folder: Path, dim: int) -> None:
    stored = np.load(folder / "recordings.npz")
    recordings = Recordings([stored[name] for name in stored.files], killed_at=KILLED_AT)
    engine = OnnxRuntimeBuilder().load(folder / "engine")
    embed_with_engine(engine, recordings, dim, folder / "journal", "embeddings")


def test_a_killed_process_loses_only_what_was_in_flight(
    engine: Engine, small: Subject, tmp_path: Path
) -> None:
    recordings = [x[:, : 50 + index] for index, x in enumerate(small.recordings * 12)]
    dim = small.network.config.embedding_dim
    np.savez(tmp_path / "recordings.npz", *recordings)
    code, printed = Program(embed_until_killed, tmp_path, dim).end()
    assert code == -signal.SIGKILL, printed
    journal = tmp_path / "journal"
    with journal.open("ab") as file:
        file.write(b"cut")  # in the midst of an entry
    rest = Recordings(recordings)
    finished = embedded(engine, rest, dim, journal)
    assert KILLED_AT - 3 * engine.parallel_requests - 1 <= rest.read[0] <= KILLED_AT
    assert rest.read == list(range(rest.read[0], len(recordings)))
    np.testing.assert_array_equal(finished.embeddings, list(engine.embed_many(recordings)))
    assert finished.seconds > 0


def test_what_is_there_is_not_done_again(engine: Engine, small: Subject, tmp_path: Path) -> None:
    dim = small.network.config.embedding_dim
    first = embedded(engine, small.recordings, dim, tmp_path / "journal")
    recordings = Recordings(small.recordings)
    again = embedded(engine, recordings, dim, tmp_path / "journal")
    assert recordings.read == []
    np.testing.assert_array_equal(again.embeddings, first.embeddings)
    assert again.seconds == first.seconds


def test_what_a_machine_that_went_down_never_wrote_is_done_again(
    engine: Engine, small: Subject, tmp_path: Path
) -> None:
    dim, journal = small.network.config.embedding_dim, tmp_path / "journal"
    whole = embedded(engine, small.recordings, dim, journal)
    content = journal.read_bytes()
    kept = len(content) // len(small.recordings) * 3
    journal.write_bytes(content[:kept] + bytes(len(content) - kept))
    recordings = Recordings(small.recordings)
    again = embedded(engine, recordings, dim, journal)
    assert recordings.read == list(range(3, len(recordings)))
    np.testing.assert_array_equal(again.embeddings, whole.embeddings)
