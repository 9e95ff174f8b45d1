"""Conditions of recordings and speakers, such as sex or device, and the groups of trials that they make."""

import csv
import itertools
import logging
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerquant.corpus.lists import read_lines, recording_name
from speakerquant.corpus.recordings import Recordings
from speakerquant.corpus.trials import Trials
from speakerquant.errors import UserError

log = logging.getLogger(__name__)

Conditions = Mapping[str, Sequence[str | None]]
"""By column what is known of every recording of a trial list, in its order; none of what is not known."""

_SPEAKER, _RECORDING = "speaker", "recording"
_UNNAMEABLE = re.compile(r"[^\w .:/-]")  # in the name of a metric of MLflow
_MOST_VALUES = 8  # of a column of numbers, of which more are put into four ranges
_FEW = 0.1  # of the values of a column of numbers, which may be words for what is not known
_QUARTERS, _THIRDS = (0.25, 0.5, 0.75), (1 / 3, 2 / 3)


def read_conditions(path: Path, recordings: Recordings, names: Sequence[str]) -> Conditions:
    """Read a table with tabs between its columns: first ``speaker`` or ``recording``, then conditions.

    Numbers of many values, such as ages, become four ranges of as many speakers or recordings each; few words
    among them, such as ``unknown``, are no values. A recording is one under all its names.

    Args:
        path: The table, its first line the headings.
        recordings: What tells the speaker of a recording.
        names: Names of the recordings of the trial list.

    Raises:
        UserError: the file cannot be read, its first column is another, a line has too many or too few
            fields, a speaker or recording has two values of a condition, none of the list is in it, or MLflow
            would call two conditions the same.
    """
    lines = read_lines(path, "the table of conditions; check data.conditions")
    reader = csv.reader(lines, delimiter="\t", strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not a line of a table ({error})") from None
    key, columns, table = _read(path, rows, recordings)
    called = [recordings.speaker_of(name) if key == _SPEAKER else name for name in names]
    keys = [recordings.identity_of(name) if key == _RECORDING else name for name in called]
    unknown = sorted({name for name, each in zip(called, keys, strict=True) if each not in table})
    if len(unknown) == len({*keys}):
        raise UserError(
            f"{path}: names none of the trial list's {key}s, such as {called[0]}; check data.conditions"
        )
    if unknown:
        log.warning(
            "%s: %d %ss of the trial list are not in it, such as %s", path, len(unknown), key, unknown[0]
        )
    used = {*keys} & table.keys()
    names_of = _names(path, columns)
    conditions: dict[str, Sequence[str | None]] = {}
    for place, column in enumerate(columns):
        ranged = _ranged(path, column, {each: row[place] for each, row in table.items() if each in used})
        named = _names(path, sorted({*ranged.values()}))
        conditions[names_of[column]] = [named[ranged[each]] if each in ranged else None for each in keys]
    return conditions


def _names(path: Path, texts: Iterable[str]) -> dict[str, str]:
    """What MLflow calls headings or values."""
    texts_of: dict[str, str] = {}
    for text in texts:
        name = _UNNAMEABLE.sub("_", text)
        if (other := texts_of.setdefault(name, text)) != text:
            raise UserError(f"{path}: '{other}' and '{text}' are both called '{name}'; write them in words")
    return {text: name for name, text in texts_of.items()}


def _read(
    path: Path, rows: Sequence[Sequence[str]], recordings: Recordings
) -> tuple[str, Sequence[str], dict[Hashable, Sequence[str]]]:
    """What the first column names, the headings of the others, and their fields by speaker or identity."""
    if not rows or not rows[0] or rows[0][0] not in (_SPEAKER, _RECORDING) or len(rows[0]) < 2:
        raise UserError(
            f"{path}:1: write headings with tabs between them, the first 'speaker' or 'recording', the "
            "others conditions such as 'sex'"
        )
    key, *columns = map(str.strip, rows[0])
    if len({*columns}) < len(columns):
        raise UserError(f"{path}:1: two columns have the same heading; call one of them otherwise")
    table: dict[Hashable, Sequence[str]] = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != len(rows[0]):
            raise UserError(f"{path}:{number}: {len(row)} fields, and {len(rows[0])} headings; use tabs")
        name = row[0].strip()
        identity = recordings.identity_of(recording_name(name)) if key == _RECORDING else name
        values = [value.strip() for value in row[1:]]
        if table.setdefault(identity, values) != values:
            raise UserError(
                f"{path}:{number}: {key} {name} has other conditions in a line above, under this or another "
                "name; take one of the lines out"
            )
    return key, columns, table


def _ranged(path: Path, column: str, values: Mapping[Hashable, str]) -> Mapping[Hashable, str]:
    """The values, or the ranges that many numbers lie in.

    Left out is what is empty and, of numbers, infinite; and, of many numbers, the few others.
    """
    known = {key: value for key, value in values.items() if value}
    read = {key: _number(value) for key, value in known.items()}
    words = [known[key] for key, number in read.items() if number is None]
    numbers = {key: number for key, number in read.items() if number is not None and math.isfinite(number)}
    are_many = len({*numbers.values()}) > _MOST_VALUES
    if words and not (are_many and len(words) <= _FEW * len(known)):
        return known
    if words:
        log.warning(
            "%s: %d of %d values of %s are no numbers, such as '%s', and taken as not known",
            *(path, len(words), len(known), column, words[0]),
        )
    if not are_many:
        return {key: known[key] for key in numbers}
    ranges, places = _ranges(np.array([*numbers.values()]), _QUARTERS, "")
    return {key: ranges[place] for key, place in zip(numbers, places, strict=True)}


def _number(text: str) -> float | None:
    if "_" in text:  # which Python overlooks in numbers, and separates the ends of ranges
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _ranges(
    values: npt.NDArray[np.floating], shares: Sequence[float], unit: str
) -> tuple[list[str], npt.NDArray[np.intp]]:
    """Ranges in words, and for each value the place of its range; as many values lie in each as can be."""
    ends = np.unique(np.quantile(values, shares, method="lower"))
    first, *others = _in_words([*ends, values.max()])
    words = [f"to {first}{unit}"]
    words += [f"above {low} to {high}{unit}" for low, high in itertools.pairwise([first, *others])]
    return words, np.searchsorted(ends, values)


def _in_words(rising: Sequence[float]) -> list[str]:
    """Numbers in three digits, or as many more as tell them apart and as stand before the point."""
    for digits in itertools.count(max(3, len(str(int(max(map(abs, rising))))))):
        words = [np.format_float_positional(float(f"{each:.{digits}g}"), trim="-") for each in rising]
        if len({*words}) == len({*rising}):
            return words
    raise AssertionError


@dataclass(frozen=True)
class TrialGroup:
    """The trials of a list in which a condition holds.

    Attributes:
        name: Column and value, such as ``sex f``.
        trials: Indices of the trials.
        is_given: Whether a table of the user's tells the condition.
    """

    name: str
    trials: npt.NDArray[np.intp]
    is_given: bool = True


def trial_groups(
    trials: Trials, conditions: Conditions, seconds: npt.NDArray[np.floating]
) -> list[TrialGroup]:
    """The trials of whose recordings both are alike in a condition; and of short, middle and long recordings.

    Args:
        trials: The list.
        conditions: Of its recordings. A column with one value makes no groups.
        seconds: How long each recording is; the shorter one of a trial counts.
    """
    groups = []
    for column, values in conditions.items():
        found = sorted({value for value in values if value is not None}, key=_in_order)
        place_of = {value: place for place, value in enumerate(found)}
        of_recordings = np.array([-1 if value is None else place_of[value] for value in values])
        left, right = of_recordings[trials.left], of_recordings[trials.right]
        if len(found) > 1:
            chosen = _by_place(np.where(left == right, left, -1), len(found))
            groups += [
                TrialGroup(f"{column} {value}", each) for value, each in zip(found, chosen, strict=True)
            ]
    shorter = np.minimum(seconds[trials.left], seconds[trials.right])
    words, places = _ranges(shorter, _THIRDS, " s")
    lengths = [
        TrialGroup(f"length {word}", chosen, is_given=False)
        for word, chosen in zip(words, _by_place(places, len(words)), strict=True)
        if len(chosen)
    ]
    return groups + (lengths if len(lengths) > 1 else [])


def _by_place(places: npt.NDArray[np.intp], number: int) -> list[npt.NDArray[np.intp]]:
    """The indices of each place below a number, in their order."""
    order = np.argsort(places, kind="stable")
    bounds = np.searchsorted(places, np.arange(number + 1), sorter=order)
    return [order[begin:end] for begin, end in itertools.pairwise(bounds)]


def _in_order(value: str) -> tuple[float, str]:
    """Ranges and numbers by where they end, after words."""
    numbers = re.findall(r"(?<!\w)-?\d+(?:\.\d+)?", value)
    return (float(numbers[-1]) if numbers else 0.0, value)
