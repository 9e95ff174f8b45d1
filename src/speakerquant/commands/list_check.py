"""What a trial list names, read and judged, and lists of recordings to calibrate on."""

from pathlib import Path

from speakerquant.corpus.evaluation_data import check_length, numbered_speakers
from speakerquant.corpus.list_judgement import (
    judge_balance,
    judge_conditions,
    judge_length,
    judge_sessions,
    read_conditions,
    sessions_of,
)
from speakerquant.corpus.recordings import Recordings
from speakerquant.corpus.selection import balanced_choice, check_recordings
from speakerquant.corpus.trials import read_trials, repeated_trials
from speakerquant.errors import UserError
from speakerquant.files import atomic_path

_SHOWN = 20


def check(
    recordings: Recordings,
    trials_path: Path,
    sample_rate: int,
    channel: int | None = None,
    *,
    conditions_path: Path | None = None,
    difference: float | None = None,
) -> None:
    """Read every recording of a trial list and print what is wrong with any, and what the list can carry.

    Args:
        recordings: Those that the list names.
        trials_path: The list.
        sample_rate: In Hz; a recording is usable if it has this rate, can be read whole and holds more than
            silence.
        channel: Which of several channels, from 1; without it, their average.
        conditions_path: File of lines ``recording condition``.
        difference: Of two EERs in percent, which the list shall show.

    Raises:
        UserError: any is not usable, or the list itself.
    """
    if sample_rate < 1:
        raise UserError(f"--sample-rate {sample_rate}: give a rate in Hz, such as 16000")
    if difference is not None and not 0 < difference < 100:
        raise UserError(f"--difference {difference:g}: give percent, above 0 and below 100")
    trials = read_trials(trials_path, recordings, keep_repeated=True)
    conditions = read_conditions(conditions_path, recordings, trials) if conditions_path else None
    names_of_speakers = {recordings.speaker_of(name) for name in trials.recordings}
    findings = check_recordings(recordings, trials.recordings, sample_rate, channel)
    for problem in findings.problems[:_SHOWN]:
        print(problem)
    if len(findings.problems) > _SHOWN:
        print(f"... and {len(findings.problems) - _SHOWN} more")
    if num_repeated := len(repeated_trials(trials)[1]):
        print(f"{num_repeated} trials repeat a pair; data.keep_repeated_trials=true counts them all")
    print(
        f"{len(trials)} trials ({int(trials.labels.sum())} target), {len(names_of_speakers)} speakers, "
        f"{len(trials.recordings)} recordings: {findings.num_usable} usable, {len(findings.problems)} not"
    )
    speakers = numbered_speakers(recordings, trials, trials_path)
    check_length(trials, speakers, str(trials_path))
    for line in (
        *judge_sessions(trials, speakers, sessions_of(recordings, trials)),
        *judge_balance(trials, speakers),
        *judge_length(trials, speakers, difference),
        *(judge_conditions(trials, speakers, conditions, findings.seconds) if conditions is not None else ()),
    ):
        print(line)
    if findings.problems:
        raise UserError(f"{trials_path}: {len(findings.problems)} recordings are not usable; see above")


def calibration(
    recordings: Recordings, trials_path: Path, num_recordings: int, seed: int, output: Path
) -> None:
    """Write a list of recordings of speakers that are in no trial, balanced over speakers.

    Raises:
        UserError: there are too few, or the list cannot be written.
    """
    trials = read_trials(trials_path, recordings, keep_repeated=True)
    tested = {recordings.speaker_of(name) for name in trials.recordings}
    chosen = balanced_choice(recordings, tested, num_recordings, seed)
    with atomic_path(output) as part:
        part.write_text("".join(f"{name}\n" for name in chosen), encoding="utf-8")
    speakers = {recordings.speaker_of(name) for name in chosen}
    print(f"{output}: {len(chosen)} recordings of {len(speakers)} speakers")
