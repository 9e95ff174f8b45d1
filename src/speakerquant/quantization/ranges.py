"""Calibration table: the ranges that turn a layer's inputs and weights into INT8."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from speakerquant.errors import UserError
from speakerquant.files import atomic_path, digest


@dataclass(frozen=True, eq=False)
class CalibrationTable:
    """Ranges ``(-amax, amax)`` of every layer that can be quantized, whatever a mask makes of them.

    Attributes:
        method: name of the calibration method that chose the input ranges.
        input_ranges: layer name to the amax of its input, per tensor, for 8 bits.
        weight_ranges: layer name to the amax of its weight, float32 ``[out_channels]``, for 8 bits.

    Raises:
        UserError: layers with only one of the two ranges, or a range that is not finite and positive.
    """

    method: str
    input_ranges: Mapping[str, float]
    weight_ranges: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        for layer in {**self.input_ranges, **self.weight_ranges}:
            for kind, ranges in (("input", self.input_ranges), ("weight", self.weight_ranges)):
                if layer not in ranges:
                    raise UserError(f"calibration table: {layer} has no {kind} range; calibrate again")
                values = np.asarray(ranges[layer])
                if not (np.isfinite(values) & (values > 0)).all():
                    raise UserError(
                        f"calibration table: the {kind} range of {layer} is not finite and positive; "
                        "calibrate again with recordings that hold speech"
                    )

    @property
    def digest(self) -> str:
        """Digest of the method and of all ranges."""
        weights = {layer: np.asarray(ranges).tolist() for layer, ranges in self.weight_ranges.items()}
        return digest(self.method, dict(self.input_ranges), weights)

    def save(self, path: Path) -> None:
        """Write the table as one safetensors file, whole or not at all."""
        metadata = {"method": self.method, "input_ranges": json.dumps(dict(self.input_ranges))}
        with atomic_path(path) as part:
            weights = {layer: np.asarray(ranges) for layer, ranges in self.weight_ranges.items()}
            part.write_bytes(save(weights, metadata))

    @classmethod
    def load(cls, path: Path) -> "CalibrationTable":
        """Read a table that :meth:`save` wrote.

        Raises:
            UserError: the file is missing or is not a calibration table.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata()
                input_ranges = {
                    layer: float(amax) for layer, amax in json.loads(metadata["input_ranges"]).items()
                }
                weight_ranges = {layer: file.get_tensor(layer) for layer in input_ranges}
                return cls(metadata["method"], input_ranges, weight_ranges)
        except FileNotFoundError:
            raise UserError(f"{path}: no such calibration table; calibrate first") from None
        except (OSError, SafetensorError, TypeError, KeyError, ValueError, AttributeError):
            raise UserError(f"{path}: not a calibration table; delete it and calibrate again") from None
