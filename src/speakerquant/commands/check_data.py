"""``speakerquant-data``: whether a corpus is complete, what its list can carry, a list to calibrate on."""

import argparse
from pathlib import Path

from speakerquant.cache import Cache
from speakerquant.commands.console_script import run_command
from speakerquant.corpus.evaluation_data import numbered_speakers
from speakerquant.corpus.list_judgement import (
    judge_balance,
    judge_conditions,
    judge_length,
    judge_sessions,
    read_conditions,
    sessions_of,
)
from speakerquant.corpus.recordings import Recordings, open_recordings, speaker_from_mapping
from speakerquant.corpus.selection import balanced_choice, check_recordings
from speakerquant.corpus.trial_sources import trial_list_path
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


def _command() -> None:
    parser = argparse.ArgumentParser(prog="speakerquant-data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {
        "check": "read every recording of a trial list, count those that are of no use, and judge the list",
        "calibration": "write a list of recordings of other speakers, to calibrate on",
    }.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--root", type=Path, required=True, help="folder, Kaldi wav.scp or SpeechBrain csv"
        )
        command.add_argument("--trials", required=True, help="list to test on: a path or an address")
        command.add_argument(
            "--speakers", type=Path, help="file of lines 'recording speaker'; else names and paths tell"
        )
    commands.choices["check"].add_argument("--sample-rate", type=int, default=16000, help="in Hz")
    commands.choices["check"].add_argument(
        "--channel", type=int, help="which channel, from 1; else channels are averaged"
    )
    commands.choices["check"].add_argument(
        "--conditions", type=Path, help="file of lines 'recording condition', to compare conditions"
    )
    commands.choices["check"].add_argument(
        "--difference", type=float, metavar="PERCENT", help="of two EERs, which the list shall show"
    )
    chosen = commands.choices["calibration"]
    chosen.add_argument("--num-recordings", type=int, default=50, help="how many")
    chosen.add_argument("--seed", type=int, default=0, help="determines which")
    chosen.add_argument("--output", type=Path, required=True, help="the list")
    given = parser.parse_args()
    trials = trial_list_path(given.trials, Cache())
    recordings = open_recordings(given.root, speaker_from_mapping(given.speakers) if given.speakers else None)
    if given.command == "check":
        check(
            recordings,
            trials,
            given.sample_rate,
            given.channel,
            conditions_path=given.conditions,
            difference=given.difference,
        )
    else:
        calibration(recordings, trials, given.num_recordings, given.seed, given.output)


def main() -> None:
    """Entry point of ``speakerquant-data``."""
    run_command(_command)


if __name__ == "__main__":
    main()
