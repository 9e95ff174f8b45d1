"""The data of an evaluation: trials to test on, and recordings of other speakers to calibrate on."""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from speakerquant.cache import Cache
from speakerquant.corpus.conditions import Conditions, read_conditions
from speakerquant.corpus.recordings import Recordings, is_file, open_recordings, read_list
from speakerquant.corpus.synthetic import CALIBRATION, ROUNDING, TRIALS_FILE, Split, synthesize_split
from speakerquant.corpus.trials import IndexArray, Trials, read_trials
from speakerquant.errors import UserError
from speakerquant.files import CHANGED, digest, file_digest
from speakerquant.statistics.uncertainty import FEWEST_SPEAKERS

log = logging.getLogger(__name__)

_FEWEST_TRIALS = 2  # of a kind: what scores are moved by is told in their deviations
_MISTAKEN_SHARE = 0.01  # of target or other trials; where names do not tell speakers, many more disagree


@dataclass(frozen=True)
class EvaluationData:
    """A trial list and the recordings around it.

    Attributes:
        source: The recordings that the trial list names, by name.
        recordings: Paths of these recordings, in the order of ``trials.recordings``.
        trials: The pairs to score.
        trials_digest: Digest of the bytes of the trial list.
        speakers: Number of the speaker of every recording of the trials, counted from 0; if the labels
            contradict the names, every recording counts as a speaker.
        calibration: Paths of the recordings to calibrate on; none of their speakers is in ``trials``.
        rounding: Gives paths of the recordings to round weights for, of such speakers too; a synthetic corpus
            makes them when it is first asked.
        conditions: What is known of the recordings, beside who speaks.
    """

    source: Recordings
    recordings: Sequence[Path]
    trials: Trials
    trials_digest: str
    speakers: IndexArray
    calibration: Sequence[Path]
    rounding: Callable[[], Sequence[Path]]
    conditions: Conditions = field(default_factory=dict)

    @property
    def speakers_digest(self) -> str:
        """Digest of who speaks in which recording."""
        return digest(self.speakers.tolist())

    @property
    def conditions_digest(self) -> str:
        """Digest of the conditions; empty without any."""
        values = {name: [*values] for name, values in self.conditions.items()}
        return digest(values) if values else ""


def open_evaluation_data(
    recordings: Recordings,
    trials_path: Path | str,
    calibration: Recordings,
    *,
    num_calibration: int,
    calibration_seed: int,
    calibration_list: Path | str | None = None,
    rounding: Recordings | None = None,
    num_rounding: int | None = None,
    keep_repeated_trials: bool = False,
    conditions: Path | str | None = None,
) -> EvaluationData:
    """Read the trial list and choose what to calibrate on.

    Args:
        recordings: The recordings that the trial list names.
        trials_path: Path of the trial list.
        calibration: The recordings to choose from for calibration.
        num_calibration: Number of recordings that are chosen at random (all, if there are fewer).
        calibration_seed: Seed of that choice.
        calibration_list: File that names the recordings to take instead, one a line.
        rounding: The recordings to choose from to round weights for; none: those of calibration.
        num_rounding: Number of them that are chosen by the same seed; none: as many as for calibration.
        keep_repeated_trials: Whether a pair may come more than once.
        conditions: Table of what is known of speakers or recordings
            (:func:`speakerquant.corpus.conditions.read_conditions`).

    Raises:
        UserError: a folder, list or recording is missing, the calibration set is empty, or a calibration
            speaker or recording is also tested, or the trial list is changed meanwhile.
    """
    _check_number("calibration", num_calibration)
    num_rounding = num_calibration if num_rounding is None else num_rounding
    _check_number("rounding", num_rounding)
    trials_path = Path(trials_path)
    listed = Path(calibration_list) if calibration_list else None
    trials_digest = _list_digest(trials_path)
    trials = read_trials(trials_path, recordings, keep_repeated=keep_repeated_trials)
    if trials_digest is None:
        raise UserError(f"{trials_path}: is no regular file; write the list to one")
    if _list_digest(trials_path) != trials_digest:
        raise UserError(f"{trials_path}: {CHANGED}")
    paths = _existing(recordings, trials.recordings, trials_path, "data.root and data.trials")
    speakers, contradiction = numbered_speakers(recordings, trials)
    if contradiction:
        log.warning("%s: %s", trials_path, contradiction)
    if speakers is None:
        speakers = np.arange(len(trials.recordings), dtype=np.int32)
    pool = _Pool(calibration, listed, "calibrate on", "data.calibration_root and data.calibration_list")
    names = pool.names(recordings, trials)
    if listed is None:
        if len(names) < num_calibration:
            log.warning(
                "%s: calibrating on %d recordings, all there are; calibration.num_recordings=%d",
                *(calibration.source, len(names), num_calibration),
            )
        chosen = _drawn(names, num_calibration, calibration_seed)
    else:
        chosen = sorted(names)
    if len(speakers_of := {calibration.speaker_of(name) for name in chosen}) == 1:
        log.warning(
            "%s: all calibration recordings are of one speaker, %s; add others, whose ranges differ",
            *(pool.listed_in, *speakers_of),
        )
    if rounding is not None:
        others = _Pool(rounding, None, "round weights for", "rounding.root")
        names = others.names(recordings, trials)
    else:
        others = pool
    rounded_for = others.paths(_drawn(names, num_rounding, calibration_seed), recordings, trials)
    return EvaluationData(
        *(recordings, paths, trials, trials_digest, speakers),
        calibration=pool.paths(chosen, recordings, trials),
        rounding=lambda: rounded_for,
        conditions=read_conditions(Path(conditions), recordings, trials.recordings) if conditions else {},
    )


@dataclass(frozen=True)
class _Pool:
    """Recordings to choose from, of speakers that are not tested.

    Attributes:
        recordings: Where they are.
        list_path: File that names them, one a line; none: all.
        use: What to do with other speakers, where one of these is tested.
        keys: Settings that name them.
    """

    recordings: Recordings
    list_path: Path | None
    use: str
    keys: str

    @property
    def listed_in(self) -> Path:
        """What names them."""
        return self.list_path or self.recordings.source

    def names(self, tested: Recordings, trials: Trials) -> Sequence[str]:
        """All names.

        Raises:
            UserError: the list is missing, or one of their speakers is tested.
        """
        names = read_list(self.list_path, self.recordings) if self.list_path else self.recordings.names()
        if shared := _shared_speaker(self.recordings, names, tested, trials):
            raise UserError(
                f"{self.listed_in}: speaker {shared} is also in the trial list; {self.use} other speakers "
                "(if two corpora call different people so, tell them apart with data.speakers)"
            )
        return names

    def paths(self, names: Sequence[str], tested: Recordings, trials: Trials) -> Sequence[Path]:
        """Paths of some of them.

        Raises:
            UserError: one does not exist, or is tested under another name.
        """
        _check_untested(self.recordings, names, tested, trials, self.listed_in)
        return _existing(self.recordings, names, self.listed_in, self.keys)


def _drawn(names: Sequence[str], number: int, seed: int) -> Sequence[str]:
    """So many of the names, sorted; all if there are fewer."""
    return sorted(random.Random(seed).sample(names, min(number, len(names))))


def _check_number(use: str, number: int) -> None:
    if number < 1:
        raise UserError(f"{use}.num_recordings={number}: the {use} set is empty; use at least 1")


def open_cohort(
    cohort: Recordings, list_path: Path | None, recordings: Recordings, trials: Trials
) -> Sequence[Path]:
    """Return the recordings to normalise scores against: those of the list, or all.

    Raises:
        UserError: a folder, list or recording is missing, or a speaker or recording is also in the trials.
    """
    pool = _Pool(cohort, list_path, "name a cohort of", "scoring.cohort_root and scoring.cohort")
    return pool.paths(pool.names(recordings, trials), recordings, trials)


def _list_digest(path: Path) -> str | None:
    """None of what is no file or cannot be read, which its reader tells."""
    try:
        return file_digest(path) if is_file(path) else None
    except OSError:
        return None


def _existing(recordings: Recordings, names: Sequence[str], listed_in: Path, keys: str) -> Sequence[Path]:
    paths = [recordings.path_of(name) for name in names]
    missing = [path for path in paths if not is_file(path)]
    if len(missing) == len(paths) > 1:
        raise UserError(
            f"{listed_in}: none of its {len(paths)} recordings is in {recordings.source}, such as "
            f"{missing[0]}, which does not exist; is it the list of another corpus? check {keys}"
        )
    if missing:
        raise UserError(f"{listed_in}: recording {missing[0]} does not exist; check {keys}")
    return paths


def numbered_speakers(recordings: Recordings, trials: Trials) -> tuple[IndexArray | None, str | None]:
    """The speaker of every recording by number, and which trials contradict that; none if none do.

    By speakers, overlaps with other recordings are found, and intervals drawn. Few trials that contradict
    them are mistakes of the list. If many do, speakers are not known: none.
    """
    numbers: dict[str, int] = {}
    speakers = np.array(
        [numbers.setdefault(recordings.speaker_of(name), len(numbers)) for name in trials.recordings],
        np.int32,
    )
    wrong = np.flatnonzero((speakers[trials.left] == speakers[trials.right]) != trials.labels)
    if not len(wrong):
        return speakers, None
    pair = [trials.recordings[side[wrong[0]]] for side in (trials.left, trials.right)]
    told = " and ".join(recordings.speaker_of(name) for name in pair)
    found = (
        f"{len(wrong)} of {len(trials)} trials disagree with the speakers that names tell, such as "
        f"{trials.labels[wrong[0]]:d} {' '.join(pair)} ({told}); "
    )
    kinds = trials.labels[wrong]
    if all(
        np.count_nonzero(kinds == kind) <= _MISTAKEN_SHARE * np.count_nonzero(trials.labels == kind)
        for kind in (True, False)
    ):
        return speakers, (
            f"{found}as all others agree, their labels seem mistaken: correct them, or take the trials out"
        )
    return None, (
        f"{found}whether a calibration speaker is tested too is not known then, and intervals are too "
        "narrow: set data.root to the folder of the speakers, or data.speakers"
    )


def check_length(trials: Trials, speakers: IndexArray | None, called: str) -> None:
    """Refuse a list that no spread can be told of.

    Args:
        trials: The list.
        speakers: Of each recording, ``[num_recordings]``; none if they are not known.
        called: What to call it in messages.

    Raises:
        UserError: it is of one or two speakers, or has a single trial of a kind.
    """
    if speakers is not None and (num_speakers := len(np.unique(speakers))) < FEWEST_SPEAKERS:
        raise UserError(
            f"{called}: trials of {num_speakers} speakers; intervals need {FEWEST_SPEAKERS} or more"
        )
    num_targets = int(trials.labels.sum())
    if (fewest := min(num_targets, len(trials) - num_targets)) < _FEWEST_TRIALS:
        raise UserError(
            f"{called}: {fewest} trial of one kind, target or non-target, shows no spread of scores; "
            f"list at least {_FEWEST_TRIALS} of each"
        )


def _shared_speaker(
    others: Recordings, names: Sequence[str], recordings: Recordings, trials: Trials
) -> str | None:
    """Return a speaker of the other recordings who is also in the trials, if there is one."""
    tested = {recordings.speaker_of(name) for name in trials.recordings}
    return min({others.speaker_of(name) for name in names} & tested, default=None)


def _check_untested(
    others: Recordings, names: Sequence[str], recordings: Recordings, trials: Trials, listed_in: Path
) -> None:
    """Refuse recordings that are tested under another name, of another speaker as it seems."""
    tested = {recordings.identity_of(name): name for name in trials.recordings}
    for name in names:
        if known := tested.get(others.identity_of(name)):
            raise UserError(
                f"{listed_in}: {name} is the recording {known} of the trial list; take it out, and all "
                "others of its speaker"
            )


def open_synthetic_evaluation_data(
    split: Split,
    seed: int,
    cache: Cache,
    *,
    num_calibration: int,
    calibration_seed: int,
    rounding: Recordings | None = None,
    num_rounding: int | None = None,
) -> EvaluationData:
    """Open the trial list of a synthetic split, with others to calibrate on and to round weights for.

    Further speech of its kind is made for rounding, unless there are recordings to choose from.
    """
    root = synthesize_split(split, seed, cache)
    data = open_evaluation_data(
        open_recordings(root),
        root / TRIALS_FILE,
        open_recordings(synthesize_split(CALIBRATION, seed, cache)),
        num_calibration=num_calibration,
        calibration_seed=calibration_seed,
        rounding=rounding,
        num_rounding=num_rounding if rounding else None,
    )
    if num_rounding is None or rounding:
        return data
    _check_number("rounding", num_rounding)

    def made_for_rounding() -> Sequence[Path]:
        of_speaker = ROUNDING.num_sessions * ROUNDING.num_utterances
        speakers = replace(ROUNDING, num_speakers=-(-num_rounding // of_speaker))
        made = open_recordings(synthesize_split(speakers, seed, cache))
        return [made.path_of(name) for name in sorted(made.names())[:num_rounding]]

    return replace(data, rounding=made_for_rounding)
