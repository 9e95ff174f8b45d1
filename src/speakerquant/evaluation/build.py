"""Builds the engine of a mask."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from speakerquant.engine.base import Engine, EngineBuilder, Lengths
from speakerquant.evaluation.stage_times import StageTimes
from speakerquant.graph.masking import write_mask
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.ranges import CalibrationTable

ONNX_FILE = "model.onnx"


@dataclass(frozen=True)
class MaskBuilder:
    """Builds engines of one network with one backend.

    Attributes:
        network: The graph that :func:`speakerquant.graph.export.export_network` made.
        table: Ranges of its layers.
        builder: The backend.
        max_weight_bits: Most bits of integer weights, for engine and simulation alike.
        lengths: Lengths of recordings that the engines will be asked for.
        properties: What the ONNX files say of the network, beside mask and weight bits.
    """

    network: onnx.ModelProto
    table: CalibrationTable
    builder: EngineBuilder
    max_weight_bits: int
    lengths: Lengths
    properties: Mapping[str, str]

    def build(self, mask: Mask, folder: Path, times: StageTimes) -> Engine:
        """Build the engine of ``mask``; ONNX graph, engine and provenance are left in ``folder``.

        Raises:
            UserError: the backend does not run a precision of the mask, or cannot build the engine.
        """
        self.builder.check_mask(mask)
        onnx_path = folder / ONNX_FILE
        with times.stage("export"):
            properties = {**self.properties, "mask": mask.key, "weight_bits": str(self.max_weight_bits)}
            write_mask(
                self.network,
                mask,
                self.table,
                onnx_path,
                max_weight_bits=self.max_weight_bits,
                properties=properties,
            )
        with times.stage("build"):
            engine = self.builder.build(onnx_path, self.lengths)
            engine.save(folder / f"engine.{self.builder.name}")
        return engine
