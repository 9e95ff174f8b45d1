"""Builds the engine of a mask."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx

from speakerquant import schema_versions
from speakerquant.architectures.layers import LayerGeometry
from speakerquant.engine.base import Engine, EngineBuilder, Lengths
from speakerquant.engine.provenance import MASK, WEIGHT_BITS, engine_path
from speakerquant.files import digest, file_digest
from speakerquant.graph.masking import write_mask
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding

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
        network: The graph that :func:`speakerquant.graph.export.export_network` made.
        table: Ranges of its layers.
        rounding: How weights of fewer than eight bits become integers.
        layers: The geometry of its layers.
        builder: The backend.
        runner: What embeds: the backend or, where its engines do not run on this machine, another one.
        max_weight_bits: Most bits of integer weights, for engine and simulation alike.
        lengths: Lengths of recordings that the engines will be asked for.
        properties: What the ONNX files say of the network, beside mask and weight bits.
    """

    network: onnx.ModelProto
    table: CalibrationTable
    rounding: Rounding
    layers: Mapping[str, LayerGeometry]
    builder: EngineBuilder
    runner: EngineBuilder
    max_weight_bits: int
    lengths: Lengths
    properties: Mapping[str, str]

    @property
    def executed(self) -> bool:
        """Whether the engines themselves embed."""
        return self.runner is self.builder

    @property
    def identity(self) -> object:
        """What determines sizes and embeddings beside the ONNX file, in JSON-representable values."""
        return [_identity(builder) for builder in dict.fromkeys((self.builder, self.runner))]

    @contextmanager
    def build(self, mask: Mask, folder: Path, times: StageTimes) -> Iterator[BuiltMask]:
        """Build the engine of ``mask``; ONNX graph, engine and provenance are left in ``folder``.

        The runner is closed at the end of the block.

        Raises:
            UserError: the backend does not run a precision of the mask, or cannot build the engine.
        """
        self.builder.check_mask(mask, self.layers)
        onnx_path = folder / ONNX_FILE
        with times.stage("export"):
            properties = {**self.properties, MASK: mask.key, WEIGHT_BITS: str(self.max_weight_bits)}
            write_mask(
                self.network,
                mask,
                self.table,
                onnx_path,
                max_weight_bits=self.max_weight_bits,
                rounding=self.rounding,
                properties=properties,
            )
        with times.stage("build"):
            engine = self.builder.build(onnx_path, self.lengths)
            engine.save(engine_path(folder, self.builder.name))
            runner, network = (
                (engine, file_digest(onnx_path)) if self.executed else self._built_to_run(onnx_path)
            )
        with runner:
            identity = digest(schema_versions.EMBEDDINGS, network, *_identity(self.runner))
            yield BuiltMask(engine.size_bytes, engine.provenance.sha256, runner, identity)

    def _built_to_run(self, onnx_path: Path) -> tuple[Engine, str]:
        """The very network that the backend was given, as an engine of the runner, and its digest."""
        with tempfile.TemporaryDirectory() as folder:
            given = Path(folder) / ONNX_FILE
            onnx.save(self.builder.given_network(onnx_path), given)
            return self.runner.build(given, self.lengths), file_digest(given)


def _identity(builder: EngineBuilder) -> tuple[str, dict[str, str], dict[str, str]]:
    return builder.name, dict(builder.environment), dict(builder.settings)
