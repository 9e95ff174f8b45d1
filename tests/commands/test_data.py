"""``speakerquant-data``: is a corpus complete, and what to calibrate on."""

from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakerquant.commands import check_data
from speakerquant.corpus.trials import write_trials

from .conftest import Command


@pytest.fixture
def command(invoke: Command) -> Command:
    return partial(invoke, check_data.main)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Seven speakers with two to six recordings each, and a trial list of the first three."""
    for speaker in range(1, 8):
        for number in range(max(2, speaker - 1)):
            path = tmp_path / "wav" / f"id{speaker}" / "video" / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * np.sin(np.arange(8000) / 9), 16000)
    names = [f"id{speaker}/video/{number}.wav" for speaker in (1, 2, 3) for number in (0, 1)]
    write_trials(tmp_path / "trials.txt", [(i % 2 == 0, *pair) for i, pair in enumerate(pairwise(names))])
    return tmp_path


def test_check_counts_what_is_usable(corpus: Path, command: Command) -> None:
    finished = command("check", "--root", corpus / "wav", "--trials", corpus / "trials.txt")
    assert finished.code == 0, finished.err
    assert "5 trials (3 target), 3 speakers, 6 recordings: 6 usable, 0 not" in finished.out


def test_check_judges_the_list(corpus: Path, command: Command) -> None:
    names = [f"./id{speaker}/video/{number}.wav" for speaker in (1, 2, 3) for number in (0, 1)]
    conditions = corpus / "conditions.tsv"
    rows = "".join(f"{name}\t{'far' if 'id1' in name else 'near'}\tx\n" for name in names)
    conditions.write_text(f"recording\tdistance\tdevice\n{rows}")
    arguments = ["--root", corpus / "wav", "--trials", corpus / "trials.txt"]
    finished = command("check", *arguments, "--conditions", conditions, "--difference", 0.1)
    assert finished.code == 0, finished.err
    for finding in (
        "sessions: 3 of 3 target trials are of one session, and all those of 3 speakers",
        "balance: 2 of 3 speakers",
        "steps: one target trial is 33 % of the misses",
        "difference: 0.1 % is too little: fewer than four of five such lists show it",
        "distance, impostors: of 3 only 0 are in every condition",
        "device, conditions: 1 among the recordings of the list; nothing to compare",
    ):
        assert finding in finished.out
    finished = command("check", *arguments, "--difference", 0)
    assert finished.code == 2 and "--difference 0: give percent" in finished.err


def test_check_refuses_what_no_run_evaluates(corpus: Path, command: Command) -> None:
    trials = corpus / "trials.txt"
    trials.write_text("".join(trials.read_text().splitlines(keepends=True)[:3]))
    finished = command("check", "--root", corpus / "wav", "--trials", trials)
    assert finished.code == 2
    assert f"error: {trials}: trials of 2 speakers; intervals need 3 or more" in finished.err


def test_check_states_nothing_of_speakers_that_names_do_not_tell(corpus: Path, command: Command) -> None:
    trials = corpus / "trials.txt"
    trials.write_text(trials.read_text().replace(" id", " wav/id"))
    finished = command("check", "--root", corpus, "--trials", trials)
    assert finished.code == 0, finished.err
    count, contradiction, left_out = finished.out.splitlines()
    assert "5 trials (3 target), unknown speakers, 6 recordings" in count
    assert contradiction.startswith("speakers: 2 of 5 trials disagree with the speakers that names tell")
    assert contradiction.endswith("set --root to the folder of the speakers, or --speakers")
    assert left_out == "sessions, balance, intervals and conditions: not judged without speakers"


def test_check_counts_repeated_pairs(corpus: Path, command: Command) -> None:
    trials = corpus / "trials.txt"
    trials.write_text(trials.read_text() * 2)
    finished = command("check", "--root", corpus / "wav", "--trials", trials)
    assert finished.code == 0, finished.err
    assert "5 trials repeat a pair" in finished.out
    assert "10 trials (6 target)" in finished.out


def test_check_does_not_stop_at_the_first(corpus: Path, command: Command) -> None:
    folder = corpus / "wav" / "id1" / "video"
    (folder / "0.wav").unlink()
    (folder / "1.wav").write_bytes((folder / "1.wav").read_bytes()[:300])
    soundfile.write(corpus / "wav" / "id2" / "video" / "0.wav", np.full(4000, 0.1), 8000)
    left_only = np.stack([np.sin(np.arange(8000) / 9), np.zeros(8000)], axis=1)
    soundfile.write(corpus / "wav" / "id2" / "video" / "1.wav", 0.1 * left_only, 16000)
    finished = command("check", "--root", corpus / "wav", "--trials", corpus / "trials.txt")
    assert finished.code == 2
    assert "6 recordings: 2 usable, 4 not" in finished.out
    channel = "its channel 2 is silent, and channels are averaged"
    for problem in ("0.wav: no such recording", "1.wav: truncated", "8000 Hz, not 16000", channel):
        assert problem in finished.out
    assert finished.err.splitlines() == [
        f"error: {corpus / 'trials.txt'}: 4 recordings are not usable; see above"
    ]


def test_check_names_recordings_that_are_too_short(corpus: Path, command: Command) -> None:
    soundfile.write(corpus / "wav" / "id1" / "video" / "0.wav", 0.1 * np.sin(np.arange(480) / 9), 16000)
    finished = command("check", "--root", corpus / "wav", "--trials", corpus / "trials.txt")
    assert finished.code == 2
    assert "0.wav: 30 ms, too short for a network" in finished.out


def test_a_calibration_list_is_balanced_seeded_and_of_other_speakers(corpus: Path, command: Command) -> None:
    lists = []
    for seed in (0, 0, 1):
        output = corpus / f"list-{len(lists)}.txt"
        settings = ["--num-recordings", 10, "--seed", seed, "--output", output]
        finished = command(
            "calibration", "--root", corpus / "wav", "--trials", corpus / "trials.txt", *settings
        )
        assert finished.code == 0, finished.err
        assert "10 recordings of 4 speakers" in finished.out
        lists.append(output.read_text().split())
    assert lists[0] == lists[1] != lists[2]
    counts = Counter(name.split("/")[0] for name in lists[0])
    assert set(counts) == {"id4", "id5", "id6", "id7"}
    assert sorted(counts.values()) == [2, 2, 3, 3]


def test_what_is_calibrated_on_is_of_speakers_of_no_list(corpus: Path, command: Command) -> None:
    names = ["id4/video/0.wav", "id4/video/1.wav", "id5/video/0.wav"]
    write_trials(corpus / "tuned.txt", [(True, *names[:2]), (False, *names[1:])])
    lists = ["--trials", corpus / "trials.txt", "--trials", corpus / "tuned.txt"]
    output = corpus / "list.txt"
    finished = command(
        "calibration", "--root", corpus / "wav", *lists, "--num-recordings", 4, "--output", output
    )
    assert finished.code == 0, finished.err
    assert {name.split("/")[0] for name in output.read_text().split()} == {"id6", "id7"}


def test_speakers_may_be_told_by_a_file(corpus: Path, command: Command) -> None:
    recordings = sorted((corpus / "wav").rglob("*.wav"))
    names = [path.relative_to(corpus / "wav").as_posix() for path in recordings]
    (corpus / "speakers.txt").write_text("".join(f"{name} one\n" for name in names))
    arguments = ["--root", corpus / "wav", "--trials", corpus / "trials.txt"]
    arguments += ["--speakers", corpus / "speakers.txt"]
    assert "2 of 5 trials disagree with the speakers that names tell" in command("check", *arguments).out
    tested = {"id1": "one", "id2": "two"}  # and all others are the third
    told = "".join(f"{name} {tested.get(name.split('/')[0], 'three')}\n" for name in names)
    (corpus / "speakers.txt").write_text(told)
    finished = command("calibration", *arguments, "--output", corpus / "list.txt")
    assert finished.code == 2 and "0 are of speakers that are not in the trial list" in finished.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "--trials", "http://["], "http://[: no address"),
        (["check", "--trials", "{trials}", "--sample-rate", "0"], "--sample-rate 0"),
        (["check", "--trials", "/nowhere.txt"], "check --trials"),
        (
            ["calibration", "--trials", "{trials}", "--num-recordings", "2", "--output", "{wav}"],
            "cannot write",
        ),
    ],
)
def test_bad_arguments_are_one_line(arguments: list[str], says: str, corpus: Path, command: Command) -> None:
    places = {"trials": corpus / "trials.txt", "wav": corpus / "wav"}
    finished = command(*(argument.format(**places) for argument in arguments), "--root", corpus / "wav")
    assert finished.code == 2
    assert finished.err.startswith("error: ") and says in finished.err
    assert len(finished.err.splitlines()) == 1


def test_nothing_is_chosen_where_names_do_not_tell_who_is_tested(corpus: Path, command: Command) -> None:
    trials, output = corpus / "cross.txt", corpus / "list.txt"
    pairs = [
        (one == other, f"enroll/id{one}.wav", f"test/id{other}.wav") for one in (1, 2) for other in (1, 2)
    ]
    write_trials(trials, pairs)
    arguments = ["--trials", trials, "--num-recordings", 2, "--output", output]
    finished = command("calibration", "--root", corpus / "wav", *arguments)
    assert finished.code == 2
    assert f"{trials}: 2 of 4 trials disagree with the speakers that names tell" in finished.err
    assert "set --root to the folder of the speakers, or --speakers" in finished.err
    assert not output.exists()


def test_more_than_there_are_is_refused_and_nothing_written(corpus: Path, command: Command) -> None:
    arguments = ["--num-recordings", 19, "--output", corpus / "list.txt"]
    finished = command("calibration", "--root", corpus / "wav", "--trials", corpus / "trials.txt", *arguments)
    assert finished.code == 2
    assert "19 recordings asked for, and 18 are of speakers" in finished.err
    assert not (corpus / "list.txt").exists()
