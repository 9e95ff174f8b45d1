"""What a trial list can carry, judged on lists with planted faults."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from speakerquant.corpus.list_judgement import (
    judge_balance,
    judge_conditions,
    judge_length,
    judge_sessions,
    sessions_of,
)
from speakerquant.corpus.recordings import open_recordings, speaker_from_path
from speakerquant.corpus.trials import IndexArray, Trials, read_trials, write_trials

SPEAKERS = [f"s{number}" for number in range(8)]
ENROLLED = [f"{speaker}/a/{number}.wav" for speaker in SPEAKERS for number in (0, 1)]
TESTED = [f"{speaker}/b/{number}.wav" for speaker in SPEAKERS for number in range(4)]
CONDITIONS = {name: "near" if name[5] in "01" else "far" for name in TESTED}
SECONDS = dict.fromkeys(TESTED, 3.0)
Pair = tuple[str, str]


class Judged:
    """A list of pairs, written and read."""

    def __init__(self, folder: Path, pairs: Iterable[Pair]) -> None:
        labelled = ((speaker_from_path(a) == speaker_from_path(b), a, b) for a, b in pairs)
        write_trials(folder / "trials.txt", labelled)
        self.recordings = open_recordings(folder)
        self.trials: Trials = read_trials(folder / "trials.txt")
        names = [speaker_from_path(name) for name in self.trials.recordings]
        self.speakers: IndexArray = np.unique(names, return_inverse=True)[1].astype(np.int32)

    def sessions(self) -> list[str]:
        sessions = sessions_of(self.recordings, self.trials)
        return [*judge_sessions(self.trials, self.speakers, sessions)]

    def balance(self) -> list[str]:
        return [*judge_balance(self.trials, self.speakers)]

    def conditions(
        self, conditions: dict[str, str] = CONDITIONS, seconds: dict[str, float] = SECONDS
    ) -> list[str]:
        values = [conditions.get(name) for name in self.trials.recordings]
        return [*judge_conditions(self.trials, self.speakers, {"distance": values}, seconds)]


DESIGN: list[Pair] = list(itertools.product(ENROLLED, TESTED))


def test_a_sound_list_has_no_finding(tmp_path: Path) -> None:
    judged = Judged(tmp_path, DESIGN)
    assert judged.sessions() == ["sessions: each of 64 target trials is of two sessions"]
    assert judged.balance() == [
        f"balance: 4 of 8 speakers, 8 of 16 enrolled recordings, 16 of 32 tested recordings carry half of "
        f"the {kind} trials"
        for kind in ("target", "non-target")
    ]
    assert judged.conditions() == []


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (
            [("s0/x/1.wav", "s0/x/2.wav")],
            "1 of 1 target trials are of one session, and all those of 1 speakers",
        ),
        (
            [("s0/x/1.wav", "s0/x/2.wav"), ("s0/x/1.wav", "s0/y/1.wav")],
            "1 of 2 target trials are of one session; rooms",
        ),
        (
            [("id10001/v/1.wav", "id10001/v/2.wav"), ("dev/id10002/v/1.wav", "dev/id10002/w/1.wav")],
            "1 of 2 target trials are of one session, and all those of 1 speakers",
        ),
        ([("61/61-70968-0000.flac", "61/61-70968-0001.flac")], "1 of 1 target trials are of one session"),
        ([("61/61-70968-0000.flac", "61/61-70970-0001.flac")], "each of 1 target trials is of two"),
        ([("s0/1.wav", "s0/2.wav")], "the names tell none"),
        ([("s0/x/1.wav", "s0/y/2.wav"), ("s1/1.wav", "s1/2.wav")], "(of 1 more it is not known)"),
    ],
)
def test_target_trials_of_one_session_are_counted(tmp_path: Path, pairs: list[Pair], says: str) -> None:
    [line] = Judged(tmp_path, [*pairs, (pairs[0][0], "other/z/9.wav")]).sessions()
    assert says in line


def test_few_who_carry_most_are_told(tmp_path: Path) -> None:
    many = [(a, b) for a, b in DESIGN if a[:2] == b[:2] == "s0" or (a[5] == b[5] == "0")]
    of_targets, of_others = Judged(tmp_path, many).balance()
    assert "1 of 8 speakers" in of_targets and "few speakers" in of_targets
    assert "4 of 8 speakers" in of_others and "few" not in of_others


def test_recordings_of_other_length_in_a_condition_are_told(tmp_path: Path) -> None:
    judged = Judged(tmp_path, DESIGN)
    seconds = {name: 3.0 if CONDITIONS[name] == "near" else 2.0 for name in TESTED}
    [line] = judged.conditions(seconds=seconds)
    assert "3.0 s in near and 2.0 s in far (1.5 times)" in line
    # some short ones leave the median as it is
    short = {name: 1.0 if name.endswith("2.wav") and name < "s6" else 3.0 for name in TESTED}
    [line] = judged.conditions(seconds=short)
    assert line.startswith("distance, durations: a quarter is below 3.0 s in near and 1.0 s in far")
    assert judged.conditions(seconds={}) == []


def test_other_speakers_in_a_condition_are_told(tmp_path: Path) -> None:
    others = [
        (a, b) for a, b in DESIGN if a[:2] == b[:2] or not (b[:2] in ("s0", "s1") and CONDITIONS[b] == "far")
    ]
    impostors, shares = Judged(tmp_path, others).conditions()
    assert "distance, impostors: of 8 only 6 are in every condition (6 in far, 8 in near)" in impostors
    assert impostors.endswith("take those that are in all")
    assert "shares: 7 non-target trials for each target trial in near, 5.2 in far" in shares


def test_enrolled_recordings_that_are_tested_are_told(tmp_path: Path) -> None:
    [line] = Judged(tmp_path, [*DESIGN, (ENROLLED[0], ENROLLED[1])]).conditions(
        {**CONDITIONS, ENROLLED[1]: "far"}
    )
    assert "enrolment: 1 of 16 enrolled recordings are tested too, such as s0/a/1.wav" in line


def test_sides_mean_nothing_where_all_are_paired(tmp_path: Path) -> None:
    judged = Judged(tmp_path, itertools.combinations(TESTED, 2))
    assert judged.conditions() == []
    assert "16 of 32 recordings" in judged.balance()[0]


def test_another_share_of_target_trials_is_told(tmp_path: Path) -> None:
    fewer = [(a, b) for a, b in DESIGN if CONDITIONS[b] == "near" or a[:2] == b[:2] or a[3:] == "a/0.wav"]
    [line] = Judged(tmp_path, fewer).conditions()
    assert "shares: 7 non-target trials for each target trial in near, 3.5 in far" in line
    none = [(a, b) for a, b in DESIGN if CONDITIONS[b] == "near" or a[:2] != b[:2]]
    assert any("no target trial in far" in line for line in Judged(tmp_path, none).conditions())


def test_what_has_no_condition_is_left_out_with_a_word(tmp_path: Path) -> None:
    judged = Judged(tmp_path, DESIGN)
    known = {name: condition for name, condition in CONDITIONS.items() if not name.endswith("3.wav")}
    assert "conditions: 8 of 32 tested recordings have none" in judged.conditions(known)[0]
    assert "nothing to compare" in judged.conditions(dict.fromkeys(TESTED, "near"))[0]


def test_where_nobody_is_in_two_conditions_none_are_to_be_taken(tmp_path: Path) -> None:
    of_speakers = {name: "far" if name < "s4" else "near" for name in TESTED}
    impostors, targets = Judged(tmp_path, DESIGN).conditions(of_speakers)
    for line in (impostors, targets):
        assert line.endswith(
            "of 8 only 0 are in every condition (4 in far, 4 in near); what differs may be the speakers"
        )


@pytest.mark.parametrize(
    ("difference", "says"),
    [
        (50.0, "difference: 50 % is shown with INT8 and 2 bits by at least four of five such lists"),
        (0.1, "0.1 % is too little: fewer than four of five such lists show it; take about"),
    ],
)
def test_a_difference_that_is_too_small_is_told(tmp_path: Path, difference: float, says: str) -> None:
    judged = Judged(tmp_path, DESIGN)
    steps, intervals, line = judge_length(judged.trials, judged.speakers, difference)
    assert "one target trial is 1.6 % of the misses" in steps and "of 8 speakers" in steps
    assert "at an EER of 2 % expect" in intervals
    assert says in line


def test_twice_the_speakers_need_half_as_many_times_more(tmp_path: Path) -> None:
    def times(num_speakers: int) -> float:
        folder = tmp_path / str(num_speakers)
        folder.mkdir()
        names = [[f"s{speaker}/{number}.wav" for number in range(3)] for speaker in range(num_speakers)]
        judged = Judged(folder, itertools.combinations(itertools.chain(*names), 2))
        *_, line = judge_length(judged.trials, judged.speakers, 0.5)
        return float(line.partition("take about ")[2].split()[0])

    assert times(20) == pytest.approx(times(10) / 2, rel=0.1)
