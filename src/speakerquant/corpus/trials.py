"""Trial lists: pairs of recordings to compare, in VoxCeleb's form."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerquant.errors import UserError

IndexArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Trials:
    """Pairs of recordings; ``left`` and ``right`` are indices into ``recordings``.

    Attributes:
        recordings: Names of all recordings that the list mentions, relative to the root, in first-seen order.
        left: ``[num_trials]``.
        right: ``[num_trials]``.
        labels: ``[num_trials]`` booleans, true where both recordings are of one speaker (a target trial).
    """

    recordings: tuple[str, ...]
    left: IndexArray
    right: IndexArray
    labels: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)


def read_trials(path: Path) -> Trials:
    """Read lines ``1 a.wav b.wav`` (same speaker) and ``0 a.wav b.wav`` (different speakers).

    Raises:
        UserError: the file is missing, a line has not three fields or another label, a recording lies
            outside the root, or one of the two kinds of trial is missing; names file and line.
    """
    indices: dict[str, int] = {}
    labels, left, right = array("b"), array("i"), array("i")
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                fields = line.split()
                if len(fields) != 3:
                    raise UserError(
                        f"{path}:{number}: {len(fields)} fields; write 'label recording recording'"
                    )
                if fields[0] not in ("0", "1"):
                    raise UserError(
                        f"{path}:{number}: label {fields[0]!r}; write 1 (same speaker) or 0 (different)"
                    )
                labels.append(fields[0] == "1")
                left.append(indices.setdefault(fields[1], len(indices)))
                right.append(indices.setdefault(fields[2], len(indices)))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the trial list ({error}); check data.trials") from None
    for name in indices:
        if name.startswith("/") or ".." in name.split("/"):
            raise UserError(
                f"{path}: recording {name} lies outside the root; write paths relative to data.root"
            )
    same = np.array(labels, dtype=np.bool_)
    if not same.any():
        raise UserError(f"{path}: no target trial (label 1); EER needs both kinds")
    if same.all():
        raise UserError(f"{path}: no non-target trial (label 0); EER needs both kinds")
    return Trials(tuple(indices), np.array(left, np.int32), np.array(right, np.int32), same)


def write_trials(path: Path, trials: Iterable[tuple[bool, str, str]]) -> None:
    """Write trials in the form that :func:`read_trials` reads."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{int(same)} {left} {right}\n" for same, left, right in trials)
