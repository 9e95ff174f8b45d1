"""Where recordings are: folders, wav.scp, csv; and compressed ones."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakerquant.corpus.evaluation_data import (
    EvaluationData,
    numbered_speakers,
    open_cohort,
    open_evaluation_data,
)
from speakerquant.corpus.recordings import (
    Recordings,
    find_recordings,
    open_recordings,
    read_list,
    speaker_from_mapping,
)
from speakerquant.corpus.trials import read_trials, write_trials
from speakerquant.errors import UserError

TRIALS = [
    (True, "id1/x/00001.wav", "id1/y/00001.wav"),
    (False, "id1/x/00001.wav", "id2/x/00001.wav"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for speaker in ("id1", "id2", "id3", "id4"):
        for video in ("x", "y"):
            path = tmp_path / "wav" / speaker / video / "00001.wav"
            path.parent.mkdir(parents=True)
            soundfile.write(path, 0.1 * np.sin(np.arange(8000) / 9), 16000)
    return tmp_path / "wav"


def test_hidden_companions_are_no_recordings(root: Path) -> None:
    names = find_recordings(root)
    (root / "__MACOSX" / "id1").mkdir(parents=True)
    for path in (root / "id1" / "x" / "._00001.wav", root / "__MACOSX" / "id1" / "._00001.wav"):
        path.write_bytes(b"Mac OS X")
    assert find_recordings(root) == names


def test_a_table_is_a_folder_by_other_means(root: Path, tmp_path: Path) -> None:
    names = ["id1/x/00001.wav", "id2/y/00001.wav"]
    (tmp_path / "wav.scp").write_text("".join(f"{name} {root / name}\n" for name in names))
    (tmp_path / "relative.scp").write_text("".join(f"{name}\twav/{name}\n" for name in names))
    rows = "".join(f"{name},1.0,{root / name},{name[:3]}\n" for name in names)
    (tmp_path / "list.csv").write_text("ID,duration,wav,spk_id\n" + rows, encoding="utf-8-sig")
    for source in (root, tmp_path / "wav.scp", tmp_path / "relative.scp", tmp_path / "list.csv"):
        recordings = open_recordings(source)
        assert set(names) <= set(recordings.names())
        for name in names:
            assert recordings.path_of(name).samefile(root / name)
            assert recordings.speaker_of(name) == name[:3]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("wav.scp", "a touch {trap} |\n", ":1: a command, which is never run"),
        ("wav.scp", "a x.wav\nb\n", ":2: no path"),
        ("wav.scp", "a x.wav\na y.wav\n", ":2: a again"),
        ("wav.scp", "a x.wav\n./a y.wav\n", ":2: a again"),
        ("wav.scp", "", "no recording in the list"),
        ("list.csv", "ID,wav\n", "no recording in the list"),
        ("list.csv", "ID,wav\n\na,x.wav\na,y.wav\n", ":4: a again"),
        ("list.csv", "ID,wav,start,stop\na,x.wav,0,9\nb,x.wav,9,18\n", ":3: x.wav again; .* taken whole"),
        ("list.csv", "ID,wav\na,x.wav\nb,./x.wav\n", ":3: ./x.wav again; .* taken whole"),
        ("list.csv", "ID,wav\na,x.wav\n./a,y.wav\n", ":3: ./a again"),
        ("list.csv", 'ID,wav\na,"x.wav\n', ":2: not a line of CSV"),
        ("list.csv", "ID,wav\na,\n", ":2: no ID or wav"),
        ("list.csv", "ID,wav\na,$data_root/x.wav\n", "without variables"),
        ("missing.scp", None, "cannot read the list of recordings"),
    ],
)
def test_a_faulty_table_is_refused_with_its_line(
    file: str, text: str | None, says: str, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    if text is not None:
        (tmp_path / file).write_text(text.replace("{trap}", str(trap)))
    with pytest.raises(UserError, match=says) as caught:
        open_recordings(tmp_path / file)
    assert str(tmp_path / file) in str(caught.value)
    assert not trap.exists()


@pytest.mark.parametrize("text", ["a x.wav\n\nb y.wav\n", "ID,wav\na,x.wav\nb,y.wav\n"])
def test_relative_paths_are_sought_beside_the_table_and_in_the_working_folder(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, working = tmp_path / "lists", tmp_path / "working"
    beside.mkdir()
    working.mkdir()
    table = beside / ("wav.scp" if text.startswith("a") else "list.csv")
    table.write_text(text)
    (beside / "x.wav").touch()
    for name in ("x.wav", "y.wav"):
        (working / name).touch()
    monkeypatch.chdir(working)
    recordings = open_recordings(table)
    assert recordings.path_of("a") == beside / "x.wav"
    assert recordings.path_of("b").resolve() == working / "y.wav"


def test_a_name_that_is_not_in_the_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text("a x.wav\n")
    with pytest.raises(UserError, match="has no recording b"):
        open_recordings(tmp_path / "wav.scp").path_of("b")


def test_the_list_of_another_corpus_is_told_from_a_missing_file(root: Path, tmp_path: Path) -> None:
    def opened(*pairs: tuple[bool, str, str]) -> None:
        write_trials(tmp_path / "trials.txt", pairs)
        folder = open_recordings(root)
        open_evaluation_data(folder, tmp_path / "trials.txt", folder, num_calibration=1, calibration_seed=0)

    with pytest.raises(UserError, match=r"none of its 3 recordings is in .*another corpus"):
        opened((True, "id9/a/1.wav", "id9/b/1.wav"), (False, "id9/a/1.wav", "id8/a/1.wav"))
    with pytest.raises(UserError, match=r"recording .*id3/z/00001\.wav does not exist"):
        opened((True, "id1/x/00001.wav", "id1/y/00001.wav"), (False, "id1/x/00001.wav", "id3/z/00001.wav"))


def test_a_list_that_is_edited_while_it_is_read_is_refused(root: Path, tmp_path: Path) -> None:
    """Or its digest would be that of other trials, by which the cache knows what these measured."""
    trials = tmp_path / "trials.txt"
    write_trials(trials, TRIALS)

    def path_of(name: str) -> Path:
        write_trials(trials, TRIALS[::-1])
        return root / name

    edited = replace(open_recordings(root), path_of=path_of)
    with pytest.raises(
        UserError, match=r"trials\.txt: changed while it was read; run the same command again"
    ):
        open_evaluation_data(edited, trials, open_recordings(root), num_calibration=1, calibration_seed=0)


def test_a_list_holds_before_and_after_a_conversion(root: Path) -> None:
    recordings = open_recordings(root)
    assert recordings.path_of("id1/x/00001.m4a") == root / "id1/x/00001.wav"
    (root / "speakers.txt").write_text("id1/x/00001.wav ann\n")
    assert (
        open_recordings(root, speaker_from_mapping(root / "speakers.txt")).speaker_of("id1/x/00001.m4a")
        == "ann"
    )
    (root / "id1/x/00001.wav").rename(root / "id1/x/00001.m4a")
    assert recordings.path_of("id1/x/00001.wav") == root / "id1/x/00001.m4a"
    assert recordings.path_of("id1/x/00002.wav") == root / "id1/x/00002.wav"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{root}/id3/x/00001.wav", "lies outside the root"),
        ("../wav/id3/x/00001.wav", "lies outside the root"),
        ("id4/../id3/x/00001.wav", "lies outside the root"),
        (".", "lies outside the root"),
        ("id4/x/00001.wav", ":2: id4/x/00001.wav again, as in line 1"),
        ("./id4//x/00001.wav", ":2: id4/x/00001.wav again, as in line 1"),
        ("link.wav", ":2: link.wav again, as in line 1, as id4/x/00001.wav"),
    ],
)
def test_a_list_names_recordings_of_the_root_once(line: str, says: str, root: Path, tmp_path: Path) -> None:
    (root / "link.wav").symlink_to(root / "id4/x/00001.wav")
    (tmp_path / "list.txt").write_text(f"id4/x/00001.wav\n{line.format(root=root)}\n")
    with pytest.raises(UserError, match=says):
        read_list(tmp_path / "list.txt", open_recordings(root))


@pytest.mark.parametrize("line", ["id4/a b.wav", '"id4/a b.wav"'])
def test_a_name_with_blanks_may_stand_in_quotes(line: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{line}\nid4/x/00001.wav\n")
    assert read_list(tmp_path / "list.txt", open_recordings(root)) == ["id4/a b.wav", "id4/x/00001.wav"]


LISTED = ["id3/x/00001.wav", "id3/y/00001.wav", "id4/x/00001.wav"]


@pytest.fixture
def open_listed(root: Path, tmp_path: Path) -> Callable[..., EvaluationData]:
    """Opens trials with the calibration list ``LISTED``; without it one recording would be chosen."""
    write_trials(tmp_path / "trials.txt", TRIALS)
    (tmp_path / "list.txt").write_text("\n".join(LISTED))
    folder = open_recordings(root)
    return partial(
        open_evaluation_data,
        folder,
        tmp_path / "trials.txt",
        folder,
        num_calibration=1,
        calibration_seed=0,
        calibration_list=tmp_path / "list.txt",
    )


def test_a_calibration_list_is_taken_whole(root: Path, open_listed: Callable[..., EvaluationData]) -> None:
    assert list(open_listed().calibration) == [root / name for name in LISTED]


def test_weights_are_rounded_for_speech_of_its_own_or_of_the_calibration_speakers(
    root: Path, tmp_path: Path, open_listed: Callable[..., EvaluationData]
) -> None:
    others = [f"id8/{number}.wav" for number in range(3)]
    (tmp_path / "others" / "id8").mkdir(parents=True)
    for name in others:
        soundfile.write(tmp_path / "others" / name, np.zeros(10), 16000)

    def opened(rounding: Recordings | None, number: int) -> list[Path]:
        return list(open_listed(rounding=rounding, num_rounding=number).rounding())

    assert opened(open_recordings(tmp_path / "others"), 9) == [tmp_path / "others" / name for name in others]
    assert opened(None, 9) == [root / name for name in LISTED]
    assert len(opened(None, 2)) == 2
    with pytest.raises(UserError, match=r"speaker id1 is also in the trial list; round weights for other"):
        opened(open_recordings(root), 9)
    with pytest.raises(UserError, match=r"rounding\.num_recordings=0: the rounding set is empty"):
        opened(None, 0)


def test_what_is_tested_is_not_calibrated_on_under_another_name(root: Path, tmp_path: Path) -> None:
    write_trials(tmp_path / "trials.txt", TRIALS)
    (tmp_path / "others" / "id9").mkdir(parents=True)
    (tmp_path / "others" / "id9" / "1.wav").hardlink_to(root / TRIALS[0][1])
    others, folder = open_recordings(tmp_path / "others"), open_recordings(root)
    with pytest.raises(UserError, match=r"others: id9/1\.wav is the recording id1/x/00001\.wav of the trial"):
        open_evaluation_data(folder, tmp_path / "trials.txt", others, num_calibration=1, calibration_seed=0)
    trials = read_trials(tmp_path / "trials.txt", folder)
    with pytest.raises(UserError, match=r"id9/1\.wav is the recording"):
        open_cohort(others, None, folder, trials)


def test_speakers_that_names_do_not_tell_are_warned_of(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def opened(folder: Path, prefix: str) -> None:
        write_trials(tmp_path / "trials.txt", [(t, prefix + a, prefix + b) for t, a, b in TRIALS])
        for name in ("other.wav", "another.wav"):
            soundfile.write(tmp_path / name, np.zeros(10), 16000)
        (tmp_path / "list.txt").write_text("other.wav\nanother.wav\n")
        open_evaluation_data(
            open_recordings(folder),
            tmp_path / "trials.txt",
            open_recordings(tmp_path),
            num_calibration=1,
            calibration_seed=0,
            calibration_list=tmp_path / "list.txt",
        )

    opened(root, "")
    assert caplog.text == ""
    opened(tmp_path, "wav/")
    assert "1 of 2 trials disagree with the speakers that names tell" in caplog.text
    assert "0 wav/id1/x/00001.wav wav/id2/x/00001.wav (wav and wav)" in caplog.text
    assert "set data.root to the folder of the speakers" in caplog.text


def test_few_labels_that_contradict_the_names_are_mistakes(tmp_path: Path) -> None:
    names = [[f"id{speaker}/{number}.wav" for number in range(3)] for speaker in range(60)]
    pairs = [(True, own[0], own[number]) for own in names for number in (1, 2)]
    pairs += [(False, own[0], other[0]) for own, other in zip(names, names[1:] + names[:1], strict=True)]
    pairs += [(False, own[1], other[2]) for own, other in zip(names, names[1:] + names[:1], strict=True)]
    pairs[7] = (False, *pairs[7][1:])
    path, recordings = tmp_path / "trials.txt", open_recordings(tmp_path)
    write_trials(path, pairs)
    speakers, contradiction = numbered_speakers(recordings, read_trials(path, recordings))
    assert speakers is not None and len({*speakers}) == 60
    assert contradiction is not None and "1 of 240 trials disagree" in contradiction
    assert "such as 0 id3/0.wav id3/2.wav (id3 and id3); as all others agree" in contradiction
