"""What a trial list names, read and judged, and lists of recordings to calibrate on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from speakerquant.corpus.conditions import read_conditions
from speakerquant.corpus.evaluation_data import check_length, numbered_speakers
from speakerquant.corpus.list_judgement import (
    judge_balance,
    judge_conditions,
    judge_length,
    judge_sessions,
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
) -> Iterator[str]:
    """Read every recording of a trial list, and yield what is wrong with any, and what the list can carry.

    Args:
        recordings: Those that the list names.
        trials_path: The list.
        sample_rate: In Hz; a recording is usable if it has this rate, can be read whole and holds more than
            silence.
        channel: Which of several channels, from 1; without it, their average.
        conditions_path: Table of what is known of speakers or recordings.
        difference: Of two EERs in percent, which the list shall show.

    Raises:
        UserError: any is not usable, or the list itself.
    """
    if sample_rate < 1:
        raise UserError(f"--sample-rate {sample_rate}: give a rate in Hz, such as 16000")
    if difference is not None and not 0 < difference < 100:
        raise UserError(f"--difference {difference:g}: give percent, above 0 and below 100")
    trials = read_trials(trials_path, recordings, keep_repeated=True)
    conditions = read_conditions(conditions_path, recordings, trials.recordings) if conditions_path else {}
    findings = check_recordings(recordings, trials.recordings, sample_rate, channel)
    yield from findings.problems[:_SHOWN]
    if len(findings.problems) > _SHOWN:
        yield f"... and {len(findings.problems) - _SHOWN} more"
    if num_repeated := len(repeated_trials(trials)[1]):
        yield f"{num_repeated} trials repeat a pair; data.keep_repeated_trials=true counts them all"
    speakers, contradiction = numbered_speakers(recordings, trials)
    num_speakers = "unknown" if speakers is None else len({*speakers})
    yield (
        f"{len(trials)} trials ({int(trials.labels.sum())} target), {num_speakers} speakers, "
        f"{len(trials.recordings)} recordings: {findings.num_usable} usable, {len(findings.problems)} not"
    )
    if contradiction:
        yield f"speakers: {contradiction}"
    check_length(trials, speakers, str(trials_path))
    if speakers is None:
        yield "sessions, balance, intervals and conditions: not judged without speakers"
    else:
        yield from judge_sessions(trials, speakers, sessions_of(recordings, trials))
        yield from judge_balance(trials, speakers)
        yield from judge_length(trials, speakers, difference)
        yield from judge_conditions(trials, speakers, conditions, findings.seconds)
    if findings.problems:
        raise UserError(f"{trials_path}: {len(findings.problems)} recordings are not usable; see above")


def calibration(
    recordings: Recordings, trials_paths: Sequence[Path], num_recordings: int, seed: int, output: Path
) -> None:
    """Write a list of recordings of speakers that are in no trial of any list, balanced over speakers.

    Raises:
        UserError: there are too few, names do not tell who is tested, or the list cannot be written.
    """
    lists = [read_trials(path, recordings, keep_repeated=True) for path in trials_paths]
    for path, trials in zip(trials_paths, lists, strict=True):
        speakers_tested, contradiction = numbered_speakers(recordings, trials)
        if speakers_tested is None:
            raise UserError(f"{path}: {contradiction}")
    tested = {recordings.speaker_of(name) for trials in lists for name in trials.recordings}
    chosen = balanced_choice(recordings, tested, num_recordings, seed)
    with atomic_path(output) as part:
        part.write_text("".join(f"{name}\n" for name in chosen), encoding="utf-8")
    speakers = {recordings.speaker_of(name) for name in chosen}
    print(f"{output}: {len(chosen)} recordings of {len(speakers)} speakers")
