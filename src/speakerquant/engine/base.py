"""What every inference engine offers, whatever runs it."""

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.engine.provenance import MASK, WEIGHT_BITS, Provenance, network_properties, read_engine
from speakerquant.errors import UserError
from speakerquant.files import atomic_path, sha256
from speakerquant.graph.masking import onnx_bits
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import InputRange, Precision, precision_of, registered
from speakerquant.quantization.scales import MAX_WEIGHT_BITS

log = logging.getLogger(__name__)

FloatArray: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Lengths:
    """Lengths of recordings, in frames, that an engine will be asked for."""

    typical: int = 300
    longest: int = 3000
    shortest: int = 1


class Engine(ABC):
    """A network made ready to run from its serialized form, and that form, which is what is weighed.

    Attributes:
        serialized: The bytes that were built or loaded.
        provenance: What made it; set by the builder.
    """

    provenance: Provenance

    def __init__(self, serialized: bytes) -> None:
        self.serialized = serialized

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 (most have nothing to give back)
        """Give back what it holds beside this process's memory; it cannot embed any more."""

    @property
    def size_bytes(self) -> int:
        """Size of the serialized engine."""
        return len(self.serialized)

    def save(self, path: Path) -> None:
        """Write the serialized engine, whole or not at all, and beside it what made it.

        Raises:
            UserError: ``path`` cannot be written.
        """
        self.provenance.save(path)
        with atomic_path(path) as part:
            part.write_bytes(self.serialized)

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
    """Makes engines of one kind.

    Attributes:
        name: Name of the backend.
        bound_to: Names in :attr:`environment` that must be the same where an engine is loaded.
        settings: Those that change what its engines compute, by name.
    """

    name: str
    bound_to: tuple[str, ...] = ()
    settings: Mapping[str, str] = {}

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Versions and devices that it builds with, by name, in words."""

    @property
    def executes(self) -> bool:
        """Whether its engines run on this machine; if not, they are built and weighed here, and no more."""
        return True

    def given_network(self, onnx_path: Path) -> onnx.ModelProto:
        """A network as the backend is given it, which computes the same.

        Raises:
            UserError: the backend has no form for it.
        """
        return onnx.load(onnx_path)

    @abstractmethod
    def runs(self, precision: Precision, geometry: LayerGeometry) -> bool:
        """Whether its engines compute a layer of this geometry in this precision, as both are described."""

    def stored_bits(self, precision: Precision, geometry: LayerGeometry) -> int:
        """Bits that a weight of such a layer takes in its engines: those of an ONNX file, or more."""
        return onnx_bits(precision)

    def check_mask(self, mask: Mask, layers: Mapping[str, LayerGeometry]) -> None:
        """Refuse a mask that its engines do not compute.

        Args:
            mask: The precision of every layer.
            layers: The geometry of every layer.

        Raises:
            UserError: a layer in a precision that it does not run, with what it would.
        """
        for unit in mask:
            for layer in mask.units[unit]:
                precision, geometry = mask[unit], layers[layer]
                if not self.runs(precision, geometry):
                    runnable = ", ".join(each.name for each in registered() if self.runs(each, geometry))
                    raise UserError(
                        f"mask.{unit}={precision}: the engine {self.name} does not run it in {layer} "
                        f"({geometry}); it runs {runnable or 'no precision'} there"
                    )

    def widened(self, mask: Mask, layers: Mapping[str, LayerGeometry]) -> dict[str, int]:
        """The layers whose weights it stores in more bits than the mask says, with these bits."""
        stored = {name: self.stored_bits(each, layers[name]) for name, each in mask.layers.items()}
        return {name: bits for name, bits in stored.items() if bits > mask.layers[name].bits_per_weight}

    def weight_bits(self, requested: str = "auto") -> int:
        """Most bits of integer weights: 8, 7, or for ``auto`` what the device computes exactly.

        Raises:
            UserError: another value.
        """
        if requested not in ("auto", "8", "7"):
            raise UserError(f"engine.weight_bits: {requested!r} is not possible; choose auto, 8 or 7")
        return self.exact_weight_bits() if requested == "auto" else int(requested)

    def expect_many_engines(self) -> None:  # noqa: B027 (most have nothing to keep)
        """Called before the engines of several masks are built and run in this process.

        What they have in common may be kept, in up to a sixteenth of the machine's memory.
        """

    def exact_weight_bits(self) -> int:
        """The most bits that integer weights may have without saturating the device's arithmetic."""
        return MAX_WEIGHT_BITS

    def build(self, onnx_path: Path, lengths: Lengths = Lengths()) -> Engine:
        """Engine for a network that :func:`speakerquant.graph.masking.write_mask` wrote.

        Args:
            onnx_path: The network.
            lengths: What to optimise for; backends that run any length equally well do not look at it.

        Raises:
            UserError: the backend cannot build it.
        """
        engine = self._build(onnx_path, lengths)
        engine.provenance = Provenance(
            self.name,
            dict(self.environment),
            {**self.settings, **self._settings_by_length(lengths)},
            network_properties(onnx_path),
            engine.size_bytes,
            sha256(engine.serialized),
        )
        return engine

    def load(self, path: Path) -> Engine:
        """Engine that :meth:`Engine.save` wrote.

        Raises:
            UserError: the file is missing or is not an engine that can run here, with what differs.
        """
        serialized, provenance = read_engine(path)
        if provenance.engine != self.name:
            raise UserError(f"{path}: not an engine of {self.name} but of {provenance.engine}")
        differences = self._differences(provenance)
        in_words = "; ".join(differences.values())
        if any(name in self.bound_to for name in differences):
            raise UserError(f"{path}: {in_words}; build it again")
        try:
            engine = self._deserialize(serialized)
        except UserError as error:
            raise UserError(f"{path}: {'; '.join([*differences.values(), str(error)])}") from None
        if differences and self._would_saturate(provenance.network):
            raise UserError(
                f"{path}: {in_words}, where sums of {MAX_WEIGHT_BITS}-bit weights overflow; build it here, "
                "or with engine.weight_bits=7 for every processor"
            )
        if differences:
            log.warning("%s: %s; times and INT8 arithmetic may differ", path, in_words)
        engine.provenance = provenance
        return engine

    def _differences(self, provenance: Provenance) -> dict[str, str]:
        """In words, by name, where this environment is not the one that made an engine."""
        return {
            name: f"made with {name} {made}, here is {self.environment.get(name, 'none')}"
            for name, made in provenance.environment.items()
            if not self._is_at_home(name, made)
        }

    def _would_saturate(self, network: Mapping[str, str]) -> bool:
        """Whether sums of an engine made elsewhere overflow here, by what it tells of its network."""
        if network.get(WEIGHT_BITS) != str(MAX_WEIGHT_BITS) or MASK not in network:
            return False
        precisions = {unit.rpartition("=")[2] for unit in network[MASK].split(",")}
        exact = self.exact_weight_bits()
        return any(each.within(exact) != each for each in map(precision_of, precisions))

    def _is_at_home(self, name: str, made: str) -> bool:
        """Whether an engine that was made with this version or device is at home here."""
        return self.environment.get(name) == made

    def _settings_by_length(self, lengths: Lengths) -> Mapping[str, str]:
        """The settings that follow from the lengths which an engine is built for, by name."""
        return {}

    @abstractmethod
    def _build(self, onnx_path: Path, lengths: Lengths) -> Engine:
        """Engine without its provenance."""

    @abstractmethod
    def _deserialize(self, serialized: bytes) -> Engine:
        """Engine from its serialized form, without its provenance.

        Raises:
            UserError: the bytes are not an engine that can run here, with the reason.
        """


def is_eight_bit_or_float(precision: Precision) -> bool:
    """Whether a layer is eight-bit integers of stored scales throughout, or floating point.

    That is what INT8 kernels are made for.
    """
    if precision.weights is None:
        return precision.input_bits is None
    widths = (precision.weights.bits, precision.group_size, precision.input_bits)
    return widths == (8, None, 8) and precision.input_range is InputRange.calibrated
