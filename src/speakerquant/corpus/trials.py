"""Trial lists: pairs of recordings to compare, in VoxCeleb's or Kaldi's form."""

import logging
from array import array
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerquant.corpus.lists import as_field, check_names, fields_of, read_lines, recording_name
from speakerquant.corpus.recordings import Recordings
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


def read_trials(path: Path, recordings: Recordings | None = None, *, keep_repeated: bool = False) -> Trials:
    """Read a list in VoxCeleb's form, ``1 a.wav b.wav`` (same speaker) and ``0 a.wav b.wav``, or in Kaldi's.

    Kaldi's lines are ``a b target`` and ``a b nontarget``; the first line decides. Blank lines do not count.
    A name that holds blanks stands in double quotes. A recording that is written in several ways is one.

    Args:
        path: Path of the list.
        recordings: Those that it names, by whose files recordings of several names are found out.
        keep_repeated: Whether a pair may come again; it then counts as often as it comes.

    Raises:
        UserError: the file is missing, a line has not three fields or another label, a recording lies outside
            the root or is another speaker than itself, a pair comes again or with both labels, or one of the
            two kinds of trial is missing; names file and line.
    """
    indices: dict[str, int] = {}
    labels, left, right, lines = array("b"), array("i"), array("i"), array("i")
    form = None
    for number, line in enumerate(read_lines(path, "the trial list; check data.trials"), 1):
        fields = fields_of(line)
        if not fields:
            continue
        form = form or (_KALDI if fields[-1] in _KALDI.labels else _VOXCELEB)
        if len(fields) != 3 or (label := fields[form.order[0]]) not in form.labels:
            raise UserError(f"{path}:{number}: {_problem_of_line(fields, form)}")
        _, first, second = form.order
        labels.append(form.labels[label])
        lines.append(number)
        left.append(indices.setdefault(fields[first], len(indices)))
        right.append(indices.setdefault(fields[second], len(indices)))
    written = Trials(
        tuple(indices),
        np.frombuffer(left, np.int32),
        np.frombuffer(right, np.int32),
        np.frombuffer(labels, np.bool_),
    )
    trials = _with_one_name_each(path, written, recordings)
    _check(path, trials, written, lines, keep_repeated)
    return trials


def _with_one_name_each(path: Path, trials: Trials, recordings: Recordings | None) -> Trials:
    """The same trials, where recordings with several names have the one that comes first."""
    names = list(map(recording_name, trials.recordings))
    check_names(names, path)
    identities: Iterable[Hashable] = map(recordings.identity_of, names) if recordings else names
    known: dict[Hashable, int] = {}
    places = np.array([known.setdefault(each, len(known)) for each in identities], np.int32)
    first = np.unique(places, return_index=True)[1]
    if len(first) < len(names):
        other = int(np.setdiff1d(np.arange(len(names)), first)[0])
        log.warning(
            "%s: %d names are other names of recordings, such as %s of %s; they count as one recording",
            *(path, len(names) - len(first), trials.recordings[other], names[first[places[other]]]),
        )
    one_each = tuple(names[index] for index in first)
    return Trials(one_each, places[trials.left], places[trials.right], trials.labels)


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


def _problem_of_line(fields: list[str], form: _Form) -> str:
    """What is wrong with a line, with a word on the forms that other tools write."""
    if len(fields) != 3:
        commas = "; fields are separated by blanks, not by commas" if "," in "".join(fields) else ""
        blanks = "; a name that holds blanks stands in double quotes" if len(fields) > 3 else ""
        return f"{len(fields)} fields; write 'label recording recording'{commas}{blanks}"
    label = fields[form.order[0]]
    if form is _VOXCELEB and fields[2] in _VOXCELEB.labels:
        return f"label {label!r}; write {form.labels_in_words} first, not at the end"
    if fields[2].lower() in _KALDI.labels:
        return f"label {fields[2]!r}; write {_KALDI.labels_in_words}, in small letters"
    return f"label {label!r}; write {form.labels_in_words}"


def _check(path: Path, trials: Trials, written: Trials, lines: Sequence[int], keep_repeated: bool) -> None:
    if not trials.labels.any():
        raise UserError(f"{path}: no target trial (label 1); EER needs both kinds")
    if trials.labels.all():
        raise UserError(f"{path}: no non-target trial (label 0); EER needs both kinds")
    _check_recordings_alone(path, trials, lines)
    first, second = repeated_trials(trials)

    def same_pair(index: int) -> str:
        before, again = first[index], second[index]
        spelt = [{int(written.left[each]), int(written.right[each])} for each in (before, again)]
        otherwise = "" if spelt[0] == spelt[1] else ", under other names"
        return f"{path}:{lines[again]}: the same pair as line {lines[before]}{otherwise}"

    contradictory = np.flatnonzero(trials.labels[first] != trials.labels[second])
    if len(contradictory):
        raise UserError(f"{same_pair(contradictory[0])} with the other label; take one of them out")
    if len(second) and keep_repeated:
        log.info("%s: %d trials repeat a pair, and all count", path, len(second))
    elif len(second):
        raise UserError(f"{same_pair(0)}; take one of them out, or set data.keep_repeated_trials=true")


def _check_recordings_alone(path: Path, trials: Trials, lines: Sequence[int]) -> None:
    """Trials of one recording: easier than any other, and of one speaker for certain."""
    alone = np.flatnonzero(trials.left == trials.right)
    if not len(alone):
        return
    wrong = alone[~trials.labels[alone]]
    if len(wrong):
        name = trials.recordings[trials.left[wrong[0]]]
        raise UserError(
            f"{path}:{lines[wrong[0]]}: {name} is compared with itself, as of two speakers; take the line out"
        )
    log.warning(
        "%s:%d: %s is compared with itself, which makes the error rate look better (trials like it: %d)",
        *(path, lines[alone[0]], trials.recordings[trials.left[alone[0]]], len(alone)),
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
        file.writelines(f"{int(same)} {as_field(left)} {as_field(right)}\n" for same, left, right in trials)
