"""Masks: which unit of the network runs in which precision."""

from collections.abc import Iterator, Mapping

from speakerquant.errors import UserError
from speakerquant.model.units import Units
from speakerquant.quantization.precision import Precision


class Mask(Mapping[str, Precision]):
    """Immutable mapping, in network order, from unit to precision; units not named are FP32.

    Raises:
        UserError: an unknown unit or precision, with the list of valid ones.
    """

    def __init__(self, units: Units, precisions: Mapping[str, str]) -> None:
        for unit in precisions:
            if unit not in units:
                raise UserError(f"mask.{unit}: unknown unit; this network has {', '.join(units)}")
        self._precisions = {unit: _precision(unit, precisions.get(unit, Precision.FP32)) for unit in units}
        self._units = units

    def __getitem__(self, unit: str) -> Precision:
        return self._precisions[unit]

    def __iter__(self) -> Iterator[str]:
        return iter(self._precisions)

    def __len__(self) -> int:
        return len(self._precisions)

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Mask({self.key!r})"

    @property
    def key(self) -> str:
        """Canonical text form, ``input_conv=int8,se_res2block1=fp32,...``: equal masks, equal keys."""
        return ",".join(f"{unit}={precision}" for unit, precision in self._precisions.items())

    @property
    def quantized_layers(self) -> frozenset[str]:
        """Names of the layers that the mask switches to INT8."""
        return frozenset(
            layer
            for unit, precision in self._precisions.items()
            if precision is Precision.INT8
            for layer in self._units[unit]
        )


def _precision(unit: str, value: str) -> Precision:
    try:
        return Precision(value)
    except ValueError:
        valid = ", ".join(Precision)
        raise UserError(f"mask.{unit}: unknown precision {value!r}; valid are {valid}") from None
