"""Builds the engine of a mask."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from speakerquant import schema_versions
from speakerquant.architectures.layers import LayerGeometry
from speakerquant.cache import Cache
from speakerquant.engine.base import Engine, EngineBuilder, Lengths
from speakerquant.engine.provenance import MASK, ROUNDING, WEIGHT_BITS, engine_path
from speakerquant.files import digest, file_digest
from speakerquant.graph.masking import opset_of, write_mask
from speakerquant.measuring.shared import exported_network
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.prepared import PreparedModel

ONNX_FILE = "model.onnx"


@dataclass(frozen=True)
class BuiltMask:
    """The engine of a mask, and what embeds with it here.

    Attributes:
        size_bytes: Size of the serialized engine.
        sha256: Of the serialized engine.
        runner: The engine; or, where it does not run, one of the runner that computes the same network.
        identity: Digest of all that determines what the runner computes.
    """

    size_bytes: int
    sha256: str
    runner: Engine
    identity: str


@dataclass(frozen=True)
class MaskBuilder:
    """Builds engines of one network with one backend.

    Attributes:
        layers: The geometry of its layers.
        builder: The backend.
        runner: What embeds: the backend or, where its engines do not run on this machine, another one.
        lengths: Lengths of recordings that the engines will be asked for.
        properties: What the ONNX files say of the network, beside mask, rounding and weight bits.
        cache: Keeps exported networks.
    """

    layers: Mapping[str, LayerGeometry]
    builder: EngineBuilder
    runner: EngineBuilder
    lengths: Lengths
    properties: Mapping[str, str]
    cache: Cache

    @property
    def executed(self) -> bool:
        """Whether the engines themselves embed."""
        return self.runner is self.builder

    @property
    def identity(self) -> object:
        """What determines sizes and embeddings beside the ONNX file, in JSON-representable values."""
        return [_identity(builder) for builder in dict.fromkeys((self.builder, self.runner))]

    def write(self, prepared: PreparedModel, mask: Mask, folder: Path, times: StageTimes) -> Path:
        """Leave the ONNX graph of a mask in a folder.

        Args:
            prepared: The network to put the mask on.
            mask: The mask.
            folder: An existing folder.
            times: Seconds by stage, which are added to.

        Raises:
            UserError: the backend does not run a precision of the mask.
        """
        self.builder.check_mask(mask, self.layers)
        path = folder / ONNX_FILE
        with times.stage("graph"):
            network = exported_network(prepared.model, opset_of(mask), self.cache)
        with times.stage("export"):
            properties = {
                **self.properties,
                MASK: mask.key,
                ROUNDING: prepared.rounding_in_words,
                WEIGHT_BITS: str(prepared.max_weight_bits),
            }
            write_mask(
                network,
                mask,
                prepared.table,
                path,
                max_weight_bits=prepared.max_weight_bits,
                rounding=prepared.rounding,
                properties=properties,
            )
        return path

    @contextmanager
    def build(self, path: Path, times: StageTimes) -> Iterator[BuiltMask]:
        """Build the engine of a mask; the runner is closed at the end of the block.

        Args:
            path: What :meth:`write` left; engine and provenance are left beside it.
            times: Seconds by stage, which are added to.

        Raises:
            UserError: the backend cannot build the engine.
        """
        with times.stage("build"):
            engine = self.builder.build(path, self.lengths)
            engine.save(engine_path(path.parent, self.builder.name))
            runner, computed = (engine, file_digest(path)) if self.executed else self._built_to_run(path)
        with runner:
            identity = digest(schema_versions.EMBEDDINGS, computed, *_identity(self.runner))
            yield BuiltMask(engine.size_bytes, engine.provenance.sha256, runner, identity)

    def _built_to_run(self, onnx_path: Path) -> tuple[Engine, str]:
        """The very network that the backend was given, as an engine of the runner, and its digest."""
        with tempfile.TemporaryDirectory() as folder:
            given = Path(folder) / ONNX_FILE
            onnx.save(self.builder.given_network(onnx_path), given)
            return self.runner.build(given, self.lengths), file_digest(given)


def is_of_a_mask(path: Path) -> bool:
    """Whether an ONNX file is one that :meth:`MaskBuilder.write` has left."""
    try:
        properties = onnx.load(path, load_external_data=False).metadata_props
    except DecodeError:
        return False
    return any(each.key == MASK for each in properties)


def _identity(builder: EngineBuilder) -> tuple[str, dict[str, str], dict[str, str]]:
    return builder.name, dict(builder.environment), dict(builder.settings)
