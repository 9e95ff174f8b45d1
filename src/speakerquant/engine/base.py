"""What every inference engine offers, whatever runs it."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from speakerquant.cache import atomic_path
from speakerquant.errors import UserError

FloatArray: TypeAlias = npt.NDArray[np.float32]


class Engine(ABC):
    """A network made ready to run from its serialized form, and that form, which is what is weighed."""

    def __init__(self, serialized: bytes) -> None:
        self._serialized = serialized

    @property
    def size_bytes(self) -> int:
        """Size of the serialized engine."""
        return len(self._serialized)

    def save(self, path: Path) -> None:
        """Write the serialized engine, whole or not at all.

        Raises:
            UserError: ``path`` cannot be written.
        """
        with atomic_path(path) as part:
            part.write_bytes(self._serialized)

    @property
    @abstractmethod
    def parallel_requests(self) -> int:
        """Number of requests in flight that keeps the machine busy."""

    @abstractmethod
    def embed(self, features: FloatArray) -> FloatArray:
        """Features ``[B, n_mels, T]`` to embeddings ``[B, dim]``; any B and T, from any number of threads."""

    def embed_many(self, features: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Features ``[n_mels, T]`` of recordings of any length to embeddings ``[dim]``, in the same order.

        Recordings are embedded whole, one per request; a few more than are in flight are taken ahead.
        """
        pending: deque[Future[FloatArray]] = deque()
        with ThreadPoolExecutor(self.parallel_requests) as pool:
            for recording in features:
                pending.append(pool.submit(self.embed, recording[np.newaxis]))
                if len(pending) > 2 * self.parallel_requests:
                    yield pending.popleft().result()[0]
            while pending:
                yield pending.popleft().result()[0]


class EngineBuilder(ABC):
    """Makes engines of one kind."""

    name: str

    @property
    @abstractmethod
    def version(self) -> str:
        """Of the backend."""

    @property
    @abstractmethod
    def device(self) -> str:
        """What its engines run on, in words."""

    def weight_bits(self, requested: str = "auto") -> int:
        """Bits of INT8 weights to simulate with: 8, 7, or for ``auto`` what the device computes exactly.

        Raises:
            UserError: another value.
        """
        if requested not in ("auto", "8", "7"):
            raise UserError(f"engine.weight_bits: {requested!r} is not possible; choose auto, 8 or 7")
        return self.exact_weight_bits() if requested == "auto" else int(requested)

    def exact_weight_bits(self) -> int:
        """The most bits that INT8 weights may have without saturating the device's arithmetic."""
        return 8

    @abstractmethod
    def build(self, onnx_path: Path) -> Engine:
        """Engine for a network that :func:`speakerquant.quantization.export.export_onnx` wrote."""

    def load(self, path: Path) -> Engine:
        """Engine that :meth:`Engine.save` wrote.

        Raises:
            UserError: the file is missing or is not an engine that can run here.
        """
        try:
            serialized = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read engine {path}: {error.strerror}; build it first") from None
        try:
            return self.deserialize(serialized)
        except ValueError:
            raise UserError(f"{path}: not an engine that {self.name} can run here; build it again") from None

    @abstractmethod
    def deserialize(self, serialized: bytes) -> Engine:
        """Engine from its serialized form.

        Raises:
            ValueError: the bytes are not an engine that can run here.
        """
