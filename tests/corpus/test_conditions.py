"""Tables of conditions, and the groups of trials that they make."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from speakerquant.corpus.conditions import read_conditions, trial_groups
from speakerquant.corpus.recordings import open_recordings
from speakerquant.corpus.trials import Trials
from speakerquant.errors import UserError

NAMES = ("ann/0.wav", "ann/1.wav", "bob/0.wav", "cid/0.wav")


def trials_of(names: tuple[str, ...]) -> Trials:
    left, right = (each.astype(np.int32) for each in np.triu_indices(len(names), 1))
    labels = np.array([names[i][:3] == names[j][:3] for i, j in zip(left, right, strict=True)])
    return Trials(names, left, right, labels)


def read(folder: Path, text: str, names: tuple[str, ...] = NAMES) -> dict[str, list[str | None]]:
    path = folder / "conditions.tsv"
    path.write_text(text)
    found = read_conditions(path, open_recordings(folder), names)
    return {column: list(values) for column, values in found.items()}


def test_conditions_of_speakers_hold_for_all_their_recordings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = read(tmp_path, "speaker\tsex\troom\nann\tf\thall\nbob\tm\t\ndot\tf\thall\n")
    assert found == {"sex": ["f", "f", "m", None], "room": ["hall", "hall", None, None]}
    assert "1 speakers of the trial list are not in it, such as cid" in caplog.text


def test_conditions_of_recordings(tmp_path: Path) -> None:
    lines = "".join(f"./{name}\t{device}\n" for name, device in zip(NAMES, "aabb", strict=True))
    assert read(tmp_path, f"recording\tdevice\n{lines}") == {"device": ["a", "a", "b", "b"]}


def test_a_recording_may_have_other_names_than_in_the_list(tmp_path: Path) -> None:
    for name in ("ann/0.wav", "ann/1.m4a", "bob/a b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link.wav").symlink_to(tmp_path / "bob" / "a b.wav")
    names = ("ann/0.m4a", "ann/1.wav", "bob/a b.wav", "cid/0.wav")
    table = "recording\tdevice\nann/0.wav\tx\nann/1.m4a\ty\nlink.wav\tz\n"
    assert read(tmp_path, table, names) == {"device": ["x", "y", "z", None]}
    assert read(tmp_path, f"{table}bob/a b.wav\tz\n", names) == {"device": ["x", "y", "z", None]}
    with pytest.raises(UserError, match=r"conditions\.tsv:5: recording bob/a b\.wav has other conditions"):
        read(tmp_path, f"{table}bob/a b.wav\tx\n", names)


def test_numbers_of_many_values_become_ranges(tmp_path: Path) -> None:
    names = tuple(f"s{number:02}/0.wav" for number in range(12))
    ages = "".join(f"s{number:02}\t{10 + number}\n" for number in range(12))
    [(column, found)] = read(tmp_path, f"speaker\tage\n{ages}zed\t99\n", names).items()
    assert column == "age"
    assert found == [
        *(["to 12"] * 3),
        *(["above 12 to 15"] * 3),
        *(["above 15 to 18"] * 3),
        *(["above 18 to 21"] * 3),
    ]


@pytest.mark.parametrize(
    ("value", "ranges"),
    [
        (lambda number: 1950 + number, ["to 1952", "above 1952 to 1955", "above 1955 to 1958"]),
        (lambda number: 1e-5 * (1 + number), ["to 0.00003", "above 0.00003 to 0.00006"]),
        (lambda number: 2.0001 + 1e-4 * number, ["to 2.0003", "above 2.0003 to 2.0006"]),
        (lambda number: -11 + number, ["to -9", "above -9 to -6", "above -6 to -3", "above -3 to 0"]),
        (lambda number: 1e7 * (1 + number), ["to 30000000", "above 30000000 to 60000000"]),
    ],
)
def test_ranges_are_told_apart_and_can_be_names_of_metrics(
    tmp_path: Path, value: Callable[[int], float], ranges: list[str]
) -> None:
    names = tuple(f"s{number:02}/0.wav" for number in range(12))
    lines = "".join(f"s{number:02}\t{value(number)}\n" for number in range(12))
    found = read(tmp_path, f"speaker\tx\n{lines}", names)
    assert list(dict.fromkeys(found["x"]))[: len(ranges)] == ranges
    groups = trial_groups(trials_of(names), found, np.full(12, 3.0))
    assert [group.name for group in groups] == [f"x {each}" for each in dict.fromkeys(found["x"])]
    assert not any(re.search(r"[^\w .:/-]", group.name) for group in groups)


@pytest.mark.parametrize("text", ["{},5", "{}~9", "{}_9"])
def test_what_only_resembles_a_number_is_a_word(tmp_path: Path, text: str) -> None:
    names = tuple(f"s{number:02}/0.wav" for number in range(12))
    lines = "".join(f"s{number:02}\t{text.format(10 + number)}\n" for number in range(12))
    found = read(tmp_path, f"speaker\tage\n{lines}", names)["age"]
    assert len({*found}) == 12 and found[0] == "10_5" if "5" in text else "10_9"


@pytest.mark.parametrize("word", ["nan", "NA", "unknown", "-"])
def test_what_is_no_number_among_numbers_is_not_known(
    tmp_path: Path, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = tuple(f"s{number:02}/0.wav" for number in range(13))
    ages = "".join(f"s{number:02}\t{10 + number}\n" for number in range(11))
    found = read(tmp_path, f"speaker\tage\n{ages}s11\t21\ns12\t{word}\n", names)["age"]
    assert found[-1] is None and len({*found}) == 5
    assert word == "nan" or f"1 of 13 values of age are no numbers, such as '{word}'" in caplog.text
    mixed = read(tmp_path, f"speaker\tage\n{ages}s11\told\ns12\tyoung\n", names)["age"]
    assert mixed[-2:] == ["old", "young"] and len({*mixed}) == 13
    few = read(tmp_path, "speaker\tage\nann\t30\nbob\tinf\ndot\t40\n")["age"]
    assert few == ["30", "30", None, None]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name\tsex\nann\tf\n", "conditions.tsv:1: write headings with tabs between them"),
        ("speaker sex\nann f\n", "conditions.tsv:1: write headings"),
        ("", "conditions.tsv:1: write headings"),
        ("\nspeaker\tsex\n", "conditions.tsv:1: write headings"),
        ("speaker\tage\nann\t<30\nbob\t>30\n", "'<30' and '>30' are both called '_30'; write them in words"),
        ("speaker\ta<3\ta>3\nann\tx\ty\n", "'a<3' and 'a>3' are both called 'a_3'"),
        ("speaker\tsex\tsex\nann\tf\tf\n", "conditions.tsv:1: two columns have the same heading"),
        ('speaker\tsex\nann\t"f\nbob\tm\n', "conditions.tsv:3: not a line of a table"),
        ("speaker\tsex\nann\tf\textra\n", "conditions.tsv:2: 3 fields, and 2 headings"),
        (
            "speaker\tsex\nann\tf\nann\tm\n",
            "conditions.tsv:3: speaker ann has other conditions in a line above",
        ),
        ("speaker\tsex\nzoe\tf\n", "names none of the trial list's speakers, such as ann"),
    ],
)
def test_what_a_table_cannot_be(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(tmp_path, text)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.tsv: cannot read the table of conditions"):
        read_conditions(tmp_path / "missing.tsv", open_recordings(tmp_path), NAMES)


def test_a_trial_is_of_a_group_where_both_recordings_are() -> None:
    trials = trials_of(NAMES)
    conditions = {"sex": ["f", "f", "m", None], "set": ["test"] * 4}
    groups = trial_groups(trials, conditions, np.array([3.0, 3.0, 3.0, 3.0]))
    assert [(group.name, group.trials.tolist()) for group in groups] == [("sex f", [0]), ("sex m", [])]


def test_the_shorter_recording_makes_a_trial_short() -> None:
    trials = trials_of(NAMES)
    short, *others = trial_groups(trials, {}, np.array([1.0, 2.0, 4.0, 8.0]))
    assert short.name == "length to 1 s" and not short.is_given
    assert short.trials.tolist() == [0, 1, 2], "all with the recording of a second"
    assert sorted(np.concatenate([short.trials, *(each.trials for each in others)])) == list(range(6))
