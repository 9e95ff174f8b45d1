"""What an evaluation needs of a corpus: trials to test on, recordings of other speakers to calibrate on."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speakerquant.cache import Cache, file_digest
from speakerquant.corpus.recordings import SpeakerOf, find_recordings, speaker_from_path
from speakerquant.corpus.synthetic import CALIBRATION, TRIALS_FILE, Split, synthesize_split
from speakerquant.corpus.trials import Trials, read_trials
from speakerquant.errors import UserError


@dataclass(frozen=True)
class EvaluationData:
    """A trial list and the recordings around it.

    Attributes:
        recordings: Paths in the order of ``trials.recordings``.
        trials: Pairs to score.
        trials_digest: Digest of the trial list's bytes.
        calibration: Paths of the recordings to calibrate on; none of their speakers is in ``trials``.
    """

    recordings: Sequence[Path]
    trials: Trials
    trials_digest: str
    calibration: Sequence[Path]


def open_evaluation_data(
    root: Path,
    trials_path: Path,
    calibration_root: Path,
    *,
    num_calibration: int,
    calibration_seed: int,
    speaker_of: SpeakerOf = speaker_from_path,
) -> EvaluationData:
    """Read the trial list and choose ``num_calibration`` recordings at random (all, if there are fewer).

    Raises:
        UserError: a folder, list or recording is missing, the calibration set is empty, or a calibration
            speaker is also a test speaker.
    """
    if num_calibration < 1:
        raise UserError(
            f"calibration.num_recordings={num_calibration}: the calibration set is empty; use at least 1"
        )
    trials = read_trials(trials_path)
    recordings = [root / name for name in trials.recordings]
    for path in recordings:
        if not path.is_file():
            raise UserError(
                f"{trials_path}: recording {path} does not exist; check data.root and data.trials"
            )
    names = find_recordings(calibration_root)
    if shared := _shared_speaker(names, trials, speaker_of):
        raise UserError(
            f"{calibration_root}: speaker {shared} is also in the test list {trials_path}; "
            "calibrate on other speakers"
        )
    chosen = random.Random(calibration_seed).sample(names, min(num_calibration, len(names)))
    return EvaluationData(
        recordings, trials, file_digest(trials_path), [calibration_root / name for name in sorted(chosen)]
    )


def open_cohort(root: Path, list_path: Path | None, trials: Trials, speaker_of: SpeakerOf) -> list[Path]:
    """Recordings to normalise scores against: those of the list, or all below ``root``.

    Raises:
        UserError: a folder, list or recording is missing, or a speaker is also in the trials.
    """
    names = find_recordings(root) if list_path is None else _listed(list_path, root)
    if shared := _shared_speaker(names, trials, speaker_of):
        raise UserError(
            f"{list_path or root}: speaker {shared} of the cohort is also in the trial list; "
            "name a cohort of other speakers"
        )
    return [root / name for name in names]


def _listed(list_path: Path, root: Path) -> list[str]:
    try:
        names = list_path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{list_path}: cannot read the list; check scoring.cohort") from None
    for name in names:
        if not (root / name).is_file():
            raise UserError(f"{list_path}: recording {root / name} does not exist; check scoring.cohort_root")
    return names


def _shared_speaker(names: Sequence[str], trials: Trials, speaker_of: SpeakerOf) -> str | None:
    """A speaker of the recordings who is also in the trials, if there is one."""
    shared = {speaker_of(name) for name in names} & {speaker_of(name) for name in trials.recordings}
    return min(shared, default=None)


def open_synthetic_evaluation_data(
    split: Split, seed: int, cache: Cache, *, num_calibration: int, calibration_seed: int
) -> EvaluationData:
    """The trial list of a synthetic split with the synthetic calibration speakers, generated on first use."""
    root = synthesize_split(split, seed, cache)
    return open_evaluation_data(
        root,
        root / TRIALS_FILE,
        synthesize_split(CALIBRATION, seed, cache),
        num_calibration=num_calibration,
        calibration_seed=calibration_seed,
    )
