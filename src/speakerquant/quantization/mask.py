"""Masks: which layer of the network runs in which precision."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from speakerquant.architectures.units import Units, enclosing
from speakerquant.errors import UserError
from speakerquant.quantization.precision import BASELINE, Precision, precision_of

_WILDCARDS = frozenset("*?[")


class Mask(Mapping[str, Precision]):
    """Immutable mapping, in network order, from unit to precision.

    A key is the name of a unit or a shell pattern (``*``, ``?``, ``[23]``). It selects the units that it
    fits and those below them: ``se_res2block1`` fits ``se_res2block1.conv_in`` too. Patterns apply in their
    order, then names, those of modules before those of their parts; the last that fits a unit decides, and
    units that nothing fits stay as in ``base``.

        >>> from speakerquant.architectures.units import Units
        >>> units = Units({"stem": ("conv",), "block1": ("block1.a", "block1.b"), "block2": ("block2.a",)})
        >>> mask = Mask(units, {"block*": "int4", "block2": "int8"})
        >>> mask
        Mask('stem=fp32,block1=int4,block2=int8')
        >>> mask.layers["block1.b"].name
        'int4'
        >>> Mask(units, {"block2": "fp16"}, base=mask).key
        'stem=fp32,block1=int4,block2=fp16'

    Args:
        units: The network's.
        precisions: Precision, or its name, by unit or pattern.
        base: The mask that this one departs from; the baseline's if none is given.

    Attributes:
        units: The network's.

    Raises:
        UserError: a key fits no unit, or a precision is unknown; with the valid ones.
    """

    def __init__(
        self, units: Units, precisions: Mapping[str, Precision | str], base: "Mask | None" = None
    ) -> None:
        chosen: dict[str, Precision] = dict(base) if base is not None else dict.fromkeys(units, BASELINE)
        for key in sorted(precisions, key=_breadth):  # stable
            precision = _precision(key, precisions[key])
            selected = [unit for unit in units if _selects(key, unit)]
            if not selected:
                raise UserError(f"mask.{key}: {_why_nothing(key, units)}")
            chosen.update(dict.fromkeys(selected, precision))
        self._precisions = chosen
        self.units = units

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
    def names(self) -> dict[str, str]:
        """Name of the precision by unit, as results and MLflow record it."""
        return {unit: precision.name for unit, precision in self._precisions.items()}

    @property
    def layers(self) -> dict[str, Precision]:
        """Precision of every layer (module name), in network order."""
        return {layer: precision for unit, precision in self.items() for layer in self.units[unit]}

    @property
    def is_baseline(self) -> bool:
        """Whether every unit is in the precision of the baseline."""
        return all(precision == BASELINE for precision in self.values())


def baseline_mask(units: Units) -> Mask:
    """The mask that every other is compared with."""
    return Mask(units, {})


def _breadth(key: str) -> int:
    """Patterns come first, then modules before their parts."""
    return 0 if _is_pattern(key) else 1 + key.count(".")


def _is_pattern(key: str) -> bool:
    return not _WILDCARDS.isdisjoint(key)


def _selects(key: str, unit: str) -> bool:
    """Whether the key fits the unit or one of the modules that the unit lies in."""
    return any(fnmatchcase(module, key) for module in enclosing(unit))


def _why_nothing(key: str, units: Units) -> str:
    """Why a key selects no unit."""
    has = f"this network has {', '.join(units)}"
    for name, layer in units.unreached.items():
        if _selects(key, name):
            return f"{name} is of a kind that cannot be quantized ({layer.kind}); {has}"
    return f"unknown unit; {has}"


def _precision(key: str, value: Precision | str) -> Precision:
    if isinstance(value, Precision):
        return value
    try:
        return precision_of(value)
    except UserError as error:
        raise UserError(f"mask.{key}: {error}") from None
