"""Masks by name: what a name means on a network, and the names of a sweep over its units."""

from collections.abc import Iterator, Mapping, Sequence

from speakerquant.architectures.units import Units, enclosing
from speakerquant.errors import UserError
from speakerquant.quantization.mask import Mask, baseline_mask
from speakerquant.quantization.precision import INT8, precision_of

NONE = "none"
"""The name of the baseline's mask."""

ALL = "all"
"""All units, as the subject of a name."""

EACH = "*"
"""In a sweep, each unit in turn."""

NAMED = "named"
"""In a sweep, each mask that the network names itself."""

NamedMasks = Mapping[str, Sequence[str]]
"""By name the units that a mask of that name quantizes; an architecture has some of its own."""


def named_mask(name: str, units: Units, masks: NamedMasks) -> Mask:
    """The mask that a name means: ``none``, ``<subject>`` in INT8, or ``<subject>_<precision>``.

    The subject is ``all``, a unit, a module that units lie in, or one of ``masks``.

    Args:
        name: Such as ``all``, ``input_conv_int4``, ``paper``.
        units: The network's.
        masks: Those that the network names itself.

    Raises:
        UserError: there is no such subject, with those there are, or no such precision.
    """
    if name == NONE:
        return baseline_mask(units)
    for subject, precision in _readings(name):
        if keys := _selected_by(subject, units, masks):
            try:
                return Mask(units, dict.fromkeys(keys, precision_of(precision)))
            except UserError as error:
                raise UserError(f"mask={name}: {error}") from None
    subjects = ", ".join((NONE, ALL, *units, *masks))
    raise UserError(
        f"mask={name}: unknown mask; this network has {subjects}, and each with a precision, as in {ALL}_int4"
    )


def swept_names(sweep: Sequence[str], units: Units, masks: NamedMasks) -> list[str]:
    """The names of the masks of a sweep, each once.

    Args:
        sweep: Names; ``*`` and ``*_<precision>`` stand for those of each unit alone, ``named`` for ``masks``.
        units: The network's.
        masks: Those that the network names itself.
    """
    names: list[str] = []
    for entry in sweep:
        if entry == NAMED:
            names += masks
        elif entry.startswith(EACH):
            names += [f"{unit}{entry.removeprefix(EACH)}" for unit in units]
        else:
            names.append(entry)
    return list(dict.fromkeys(names))


def _readings(name: str) -> Iterator[tuple[str, str]]:
    """Subject and precision as a name may be read: names of units have underscores too, the longest first."""
    yield name, INT8.name
    parts = name.split("_")
    for count in range(len(parts) - 1, 0, -1):
        yield "_".join(parts[:count]), "_".join(parts[count:])


def _selected_by(subject: str, units: Units, masks: NamedMasks) -> Sequence[str]:
    """Keys of the mask that quantizes the subject; none if there is no such subject."""
    if subject == ALL:
        return list(units)
    if subject in masks:
        return masks[subject]
    return [unit for unit in units if subject in enclosing(unit)]
