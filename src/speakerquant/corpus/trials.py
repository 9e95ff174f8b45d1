"""Trial lists: pairs of recordings to compare, in VoxCeleb's or Kaldi's form."""

import logging
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerquant.corpus.recordings import check_names
from speakerquant.errors import UserError

log = logging.getLogger(__name__)

IndexArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Trials:
    """The pairs of recordings of a trial list.

    Attributes:
        recordings: Names of all recordings that the list mentions, relative to the root, in first-seen order.
        left: Indices ``[num_trials]`` of the first recordings in ``recordings``.
        right: Indices ``[num_trials]`` of the second recordings.
        labels: Booleans ``[num_trials]``, true where both recordings are of one speaker (a target trial).
    """

    recordings: tuple[str, ...]
    left: IndexArray
    right: IndexArray
    labels: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)


def read_trials(path: Path, *, keep_repeated: bool = False) -> Trials:
    """Read a list in VoxCeleb's form, ``1 a.wav b.wav`` (same speaker) and ``0 a.wav b.wav``, or in Kaldi's.

    Kaldi's lines are ``a b target`` and ``a b nontarget``; the first line decides. Blank lines do not count.

    Args:
        path: Path of the list.
        keep_repeated: Whether a pair may come again; it then counts as often as it comes.

    Raises:
        UserError: the file is missing, a line has not three fields or another label, a recording lies outside
            the root, a pair comes again or with both labels, or one of the two kinds of trial is missing;
            names file and line.
    """
    indices: dict[str, int] = {}
    labels, left, right, lines = array("b"), array("i"), array("i"), array("i")
    form = None
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                fields = line.split()
                if not fields:
                    continue
                if len(fields) != 3:
                    raise UserError(f"{path}:{number}: {_problem_of_line(line, form)}")
                form = form or (_KALDI if fields[2] in _KALDI.labels else _VOXCELEB)
                label, first, second = (fields[index] for index in form.order)
                if label not in form.labels:
                    raise UserError(f"{path}:{number}: {_problem_of_line(line, form)}")
                labels.append(form.labels[label])
                lines.append(number)
                left.append(indices.setdefault(first, len(indices)))
                right.append(indices.setdefault(second, len(indices)))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the trial list ({error}); check data.trials") from None
    check_names(indices, path)
    trials = Trials(
        tuple(indices), np.array(left, np.int32), np.array(right, np.int32), np.array(labels, dtype=np.bool_)
    )
    _check(path, trials, lines, keep_repeated)
    return trials


@dataclass(frozen=True)
class _Form:
    """The form of a list's lines.

    Attributes:
        order: Positions of the label, the first and the second recording.
        labels: Whether a label means a target trial.
        labels_in_words: The labels, as error messages explain them.
    """

    order: tuple[int, int, int]
    labels: Mapping[str, bool]
    labels_in_words: str


_VOXCELEB = _Form((0, 1, 2), {"1": True, "0": False}, "1 (same speaker) or 0 (different)")
_KALDI = _Form((2, 0, 1), {"target": True, "nontarget": False}, "target or nontarget")


def _problem_of_line(line: str, form: _Form | None) -> str:
    """What is wrong with a line, with a word on the forms that other tools write."""
    fields = line.split()
    if len(fields) != 3:
        commas = "; fields are separated by blanks, not by commas" if "," in line else ""
        return f"{len(fields)} fields; write 'label recording recording'{commas}"
    form = form or _VOXCELEB
    label = fields[form.order[0]]
    if form is _VOXCELEB and fields[2] in _VOXCELEB.labels:
        return f"label {label!r}; write {form.labels_in_words} first, not at the end"
    if fields[2].lower() in _KALDI.labels:
        return f"label {fields[2]!r}; write {_KALDI.labels_in_words}, in small letters"
    return f"label {label!r}; write {form.labels_in_words}"


def _check(path: Path, trials: Trials, lines: Sequence[int], keep_repeated: bool) -> None:
    if not trials.labels.any():
        raise UserError(f"{path}: no target trial (label 1); EER needs both kinds")
    if trials.labels.all():
        raise UserError(f"{path}: no non-target trial (label 0); EER needs both kinds")
    if len(alone := np.flatnonzero(trials.left == trials.right)):
        name = trials.recordings[trials.left[alone[0]]]
        log.warning(
            "%s:%d: %s is compared with itself, which makes the error rate look better (trials like it: %d)",
            *(path, lines[alone[0]], name, len(alone)),
        )
    first, second = repeated_trials(trials)
    contradictory = np.flatnonzero(trials.labels[first] != trials.labels[second])
    if len(contradictory):
        index = contradictory[0]
        raise UserError(
            f"{path}:{lines[second[index]]}: the same pair as line {lines[first[index]]} with the other "
            "label; take one of them out"
        )
    if len(second) and keep_repeated:
        log.info("%s: %d trials repeat a pair, and all count", path, len(second))
    elif len(second):
        raise UserError(
            f"{path}:{lines[second[0]]}: the same pair as line {lines[first[0]]}; take one of them out, "
            "or set data.keep_repeated_trials=true"
        )


def repeated_trials(trials: Trials) -> tuple[IndexArray, IndexArray]:
    """Return, for each trial whose pair came before, the trial where it came last and that trial itself.

    Scores are symmetric: a pair the other way round is the same pair.
    """
    first, second = np.minimum(trials.left, trials.right), np.maximum(trials.left, trials.right)
    pairs = first.astype(np.int64) * len(trials.recordings) + second
    order = np.argsort(pairs, kind="stable").astype(np.int32)
    again = np.flatnonzero(pairs[order[1:]] == pairs[order[:-1]])
    return order[again], order[again + 1]


def write_trials(path: Path, trials: Iterable[tuple[bool, str, str]]) -> None:
    """Write trials in the form that :func:`read_trials` reads."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{int(same)} {left} {right}\n" for same, left, right in trials)
