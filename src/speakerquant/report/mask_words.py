"""Masks in few words, for tables, pictures and the names of runs."""

from collections.abc import Mapping, Sequence

from speakerquant.quantization.precision import BASELINE, INT8

_MOST_NAMED = 5
_FIRST_NAMED = 2  # of longer lists


def mask_name(mask: Mapping[str, str]) -> str:
    """The units that leave the baseline's precision, and for which one unless that is INT8.

    ``none``, ``all``, ``input_conv``, ``all but embedding_linear``, ``all fp16``, ``fp16: input_conv``,
    ``int8: input_conv; fp16: embedding_linear``.

    Args:
        mask: Name of the precision by unit.
    """
    groups: dict[str, list[str]] = {}
    for unit, precision in mask.items():
        if precision != BASELINE.name:
            groups.setdefault(precision, []).append(unit)
    if not groups:
        return "none"
    if len(groups) > 1:
        return "; ".join(f"{precision}: {_listed(units)}" for precision, units in groups.items())
    [(precision, units)] = groups.items()
    left_out = [unit for unit in mask if unit not in units]
    if not left_out:
        return "all" if precision == INT8.name else f"all {precision}"
    words = f"all but {_listed(left_out)}" if len(left_out) < len(units) else _listed(units)
    return words if precision == INT8.name else f"{precision}: {words}"


def precisions_of(mask: Mapping[str, str]) -> str:
    """What a mask takes units to: ``int8``, ``int4 and int8``; the baseline's precision if it takes none."""
    return " and ".join(sorted({*mask.values()} - {BASELINE.name})) or BASELINE.name


def _listed(units: Sequence[str]) -> str:
    if len(units) <= _MOST_NAMED:
        return ", ".join(units)
    return f"{', '.join(units[:_FIRST_NAMED])} and {len(units) - _FIRST_NAMED} more"
