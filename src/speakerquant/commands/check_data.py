"""``speakerquant-data``: whether a corpus is complete, what its list can carry, a list to calibrate on."""

import argparse
from pathlib import Path

from speakerquant.commands.console_script import importing, run_command
from speakerquant.errors import renamed, said_as

# Findings and errors name the settings of a run.
_OPTIONS = {f"data.{name}": f"--{name}" for name in ("root", "trials", "speakers", "conditions")}


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
        command.add_argument(
            "--speakers", type=Path, help="file of lines 'recording speaker'; else names and paths tell"
        )
    checked, chosen = commands.choices["check"], commands.choices["calibration"]
    checked.add_argument("--trials", required=True, help="list to test on: a path or an address")
    checked.add_argument("--sample-rate", type=int, default=16000, help="in Hz")
    checked.add_argument("--channel", type=int, help="which channel, from 1; else channels are averaged")
    checked.add_argument(
        "--conditions",
        type=Path,
        help="table, tabs between its columns, first line 'recording device ...' or 'speaker sex ...'; the "
        "conditions of each column are compared",
    )
    checked.add_argument(
        "--difference", type=float, metavar="PERCENT", help="of two EERs, which the list shall show"
    )
    chosen.add_argument(
        "--trials",
        action="append",
        required=True,
        help="list to test or tune on: a path or an address; for each such list once",
    )
    chosen.add_argument("--num-recordings", type=int, default=50, help="how many")
    chosen.add_argument("--seed", type=int, default=0, help="determines which")
    chosen.add_argument("--output", type=Path, required=True, help="the list")
    given = parser.parse_args()
    with importing():
        from speakerquant.cache import Cache
        from speakerquant.commands.list_check import calibration, check
        from speakerquant.corpus.recordings import open_recordings, speaker_from_mapping
        from speakerquant.corpus.trial_sources import trial_list_path

    recordings = open_recordings(given.root, speaker_from_mapping(given.speakers) if given.speakers else None)
    if given.command == "check":
        for line in check(
            recordings,
            trial_list_path(given.trials, Cache()),
            given.sample_rate,
            given.channel,
            conditions_path=given.conditions,
            difference=given.difference,
        ):
            print(renamed(line, _OPTIONS))
    else:
        lists = [trial_list_path(each, Cache()) for each in given.trials]
        calibration(recordings, lists, given.num_recordings, given.seed, given.output)


def main() -> None:
    """Entry point of ``speakerquant-data``."""
    run_command(_command)


if __name__ == "__main__":
    main()
