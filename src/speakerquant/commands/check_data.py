"""``speakerquant-data``: whether a corpus is complete, what its list can carry, a list to calibrate on."""

import argparse
from pathlib import Path

from speakerquant.commands.console_script import importing, run_command
from speakerquant.errors import said_as

# Errors of a list name the settings of a run.
_OPTIONS = {f"data.{name}": f"--{name}" for name in ("root", "trials", "speakers")}


@said_as(_OPTIONS)
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
    with importing():
        from speakerquant.cache import Cache
        from speakerquant.commands.list_check import calibration, check
        from speakerquant.corpus.recordings import open_recordings, speaker_from_mapping
        from speakerquant.corpus.trial_sources import trial_list_path

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
