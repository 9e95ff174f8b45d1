"""What an evaluation needs of a corpus: trials to test on, recordings of other speakers to calibrate on."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speakerquant.cache import Cache, file_digest
from speakerquant.corpus.recordings import Recordings, open_recordings, read_list
from speakerquant.corpus.synthetic import CALIBRATION, TRIALS_FILE, Split, synthesize_split
from speakerquant.corpus.trials import Trials, read_trials
from speakerquant.errors import UserError


@dataclass(frozen=True)
class EvaluationData:
    """A trial list and the recordings around it.

    Attributes:
        source: Has the recordings that the trial list names.
        recordings: Paths in the order of ``trials.recordings``.
        trials: Pairs to score.
        trials_digest: Digest of the trial list's bytes.
        calibration: Paths of the recordings to calibrate on; none of their speakers is in ``trials``.
    """

    source: Recordings
    recordings: Sequence[Path]
    trials: Trials
    trials_digest: str
    calibration: Sequence[Path]


def open_evaluation_data(
    recordings: Recordings,
    trials_path: Path,
    calibration: Recordings,
    *,
    num_calibration: int,
    calibration_seed: int,
    calibration_list: Path | None = None,
    keep_repeated_trials: bool = False,
) -> EvaluationData:
    """Read the trial list and choose ``num_calibration`` recordings at random (all, if there are fewer).

    Args:
        recordings: Has those that the trial list names.
        trials_path: The trial list.
        calibration: Has those to calibrate on.
        num_calibration: How many.
        calibration_seed: Determines which.
        calibration_list: File that names some of them, one a line; without it, they are chosen from all.
        keep_repeated_trials: A pair may come more than once.

    Raises:
        UserError: a folder, list or recording is missing, the calibration set is empty, or a calibration
            speaker is also a test speaker.
    """
    if num_calibration < 1:
        raise UserError(
            f"calibration.num_recordings={num_calibration}: the calibration set is empty; use at least 1"
        )
    trials = read_trials(trials_path, keep_repeated=keep_repeated_trials)
    paths = _existing(recordings, trials.recordings, trials_path)
    names = read_list(calibration_list) if calibration_list else calibration.names()
    if shared := _shared_speaker(calibration, names, recordings, trials):
        raise UserError(
            f"{calibration_list or calibration.source}: speaker {shared} is also in the test list "
            f"{trials_path}; calibrate on other speakers"
        )
    chosen = sorted(random.Random(calibration_seed).sample(names, min(num_calibration, len(names))))
    return EvaluationData(
        recordings,
        paths,
        trials,
        file_digest(trials_path),
        _existing(calibration, chosen, calibration_list or calibration.source),
    )


def open_cohort(
    cohort: Recordings, list_path: Path | None, recordings: Recordings, trials: Trials
) -> Sequence[Path]:
    """Recordings to normalise scores against: those of the list, or all.

    Raises:
        UserError: a folder, list or recording is missing, or a speaker is also in the trials.
    """
    names = read_list(list_path) if list_path else cohort.names()
    if shared := _shared_speaker(cohort, names, recordings, trials):
        raise UserError(
            f"{list_path or cohort.source}: speaker {shared} of the cohort is also in the trial list; "
            "name a cohort of other speakers"
        )
    return _existing(cohort, names, list_path or cohort.source)


def _existing(recordings: Recordings, names: Sequence[str], listed_in: Path) -> Sequence[Path]:
    paths = [recordings.path_of(name) for name in names]
    missing = [path for path in paths if not path.is_file()]
    if len(missing) == len(paths) > 1:
        raise UserError(
            f"{listed_in}: none of its {len(paths)} recordings is in {recordings.source}, such as "
            f"{missing[0]}, which does not exist; is it the list of another corpus? check data.root"
        )
    if missing:
        raise UserError(
            f"{listed_in}: recording {missing[0]} does not exist; check data.root and data.trials"
        )
    return paths


def _shared_speaker(
    others: Recordings, names: Sequence[str], recordings: Recordings, trials: Trials
) -> str | None:
    """A speaker of the other recordings who is also in the trials, if there is one."""
    tested = {recordings.speaker_of(name) for name in trials.recordings}
    return min({others.speaker_of(name) for name in names} & tested, default=None)


def open_synthetic_evaluation_data(
    split: Split, seed: int, cache: Cache, *, num_calibration: int, calibration_seed: int
) -> EvaluationData:
    """The trial list of a synthetic split with the synthetic calibration speakers, generated on first use."""
    root = synthesize_split(split, seed, cache)
    return open_evaluation_data(
        open_recordings(root),
        root / TRIALS_FILE,
        open_recordings(synthesize_split(CALIBRATION, seed, cache)),
        num_calibration=num_calibration,
        calibration_seed=calibration_seed,
    )
