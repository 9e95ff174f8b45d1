"""Trial lists in VoxCeleb's form, and the speakers behind recordings."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from speakerquant.corpus.recordings import (
    find_recordings,
    open_recordings,
    speaker_from_mapping,
    speaker_from_path,
)
from speakerquant.corpus.trials import read_trials, repeated_trials, write_trials
from speakerquant.errors import UserError


def test_trials_survive_writing_and_reading(tmp_path: Path) -> None:
    pairs = [(True, "a/1.wav", "a/2.wav"), (False, "a/1.wav", "b/1.wav"), (False, "b/1.wav", "a/2.wav")]
    write_trials(tmp_path / "trials.txt", pairs)
    trials = read_trials(tmp_path / "trials.txt")
    names = trials.recordings
    read = [
        (bool(t), names[i], names[j])
        for t, i, j in zip(trials.labels, trials.left, trials.right, strict=True)
    ]
    assert read == pairs
    assert names == ("a/1.wav", "a/2.wav", "b/1.wav")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 a b\n0 a\n", ":2: 2 fields"),
        ("1 a b\n0 a c d\n", ":2: 4 fields"),
        ("1 a b\n\n0 a c d\n", ":3: 4 fields"),
        ("1,a,b\n", ":1: 1 fields; .* separated by blanks, not by commas"),
        ("1 a b\na b 0\n", ":2: label 'a'; write 1 .same speaker. or 0 .different. first, not at the end"),
        ("a b TARGET\n", ":1: label 'TARGET'; write target or nontarget, in small letters"),
        ("1 a b\n\n0 a c\n1 b a\n", ":4: the same pair as line 1"),
        ("1 a b\n2 a c\n", ":2: label '2'"),
        ("target a b\n", ":1: label 'target'"),
        ("a b target\na c 0\n", ":2: label '0'; write target or nontarget"),
        ("1 a b\n0 a c\n1 a b\n", ":3: the same pair as line 1"),
        ("1 a b\n0 a c\n1 b a\n", ":3: the same pair as line 1"),
        ("1 a b\n0 a b\n", ":2: the same pair as line 1 with the other label"),
        ("1 a b\n0 b a\n", ":2: the same pair as line 1 with the other label"),
        ("1 a b\n1 a c\n", "no non-target trial"),
        ("0 a b\n", "no target trial"),
        ("", "no target trial"),
        ("1 a b\n0 ./a b\n", ":2: the same pair as line 1, under other names with the other label"),
        ("1 a b\n0 b .//a\n", ":2: the same pair as line 1, under other names with the other label"),
        ("1 c/a b\n0 a b\n1 c//./a b\n", ":3: the same pair as line 1, under other names; take one"),
        ("1 a b\n0 a ./a\n", ":2: a is compared with itself, as of two speakers"),
        ('1 a b\n0 a "b c\n', ":2: 4 fields; .* in double quotes"),
        ("1 a b\n0 /etc/passwd a\n", "/etc/passwd lies outside"),
        ("1 a b\n0 b//../x.wav a\n", "x.wav lies outside"),
        ("1 a b\n0 ../x.wav a\n", "../x.wav lies outside"),
    ],
)
def test_faulty_list_is_refused_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "trials.txt"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_trials(path)
    assert str(path) in str(caught.value)
    assert re.search(said, str(caught.value))


def test_blank_lines_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "trials.txt"
    path.write_text("\n1 a b\n   \n0 a c\n\n")
    assert [*read_trials(path).labels] == [True, False]


def test_a_recording_that_is_compared_with_itself_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "trials.txt"
    path.write_text("1 a b\n0 a c\n1 c c\n")
    read_trials(path)
    assert f"{path}:3: c is compared with itself" in caplog.text


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_link_is_another_name_of_a_recording(
    link: Callable[[Path, Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "abc":
        (tmp_path / f"{name}.wav").write_text(name)
    link(tmp_path / "d.wav", tmp_path / "a.wav")
    path, recordings = tmp_path / "trials.txt", open_recordings(tmp_path)
    path.write_text("1 a.wav b.wav\n0 c.wav d.wav\n0 c.wav gone.wav\n")
    trials = read_trials(path, recordings)
    assert trials.recordings == ("a.wav", "b.wav", "c.wav", "gone.wav")
    assert [*trials.right] == [1, 0, 3]
    assert "1 names are other names of recordings, such as d.wav of a.wav" in caplog.text
    path.write_text("1 a.wav b.wav\n0 b.wav d.wav\n")
    with pytest.raises(UserError, match="2: the same pair as line 1, under other names with the other label"):
        read_trials(path, recordings)


def test_names_may_hold_blanks(tmp_path: Path) -> None:
    pairs = [(True, "a b/1 2.wav", 'say "a" .wav'), (False, '"a', "o'brien/\u00a0.wav")]
    path = tmp_path / "trials.txt"
    write_trials(path, pairs)
    assert read_trials(path).recordings == tuple(name for _, *pair in pairs for name in pair)
    path.write_text('1 "a b" o\'brien/"1".wav\n0 "a b"\t"c\td"\n')
    assert read_trials(path).recordings == ("a b", 'o\'brien/"1".wav', "c\td")


def test_repeated_trials_may_be_kept_but_not_with_both_labels(tmp_path: Path) -> None:
    path = tmp_path / "trials.txt"
    path.write_text("1 a b\n0 a c\n1 a b\n1 a b\n")
    trials = read_trials(path, keep_repeated=True)
    assert [*trials.labels] == [True, False, True, True]
    first, second = repeated_trials(trials)
    assert [*first] == [0, 2] and [*second] == [2, 3]
    path.write_text("1 a b\n0 a c\n0 a b\n")
    with pytest.raises(UserError, match="other label"):
        read_trials(path, keep_repeated=True)


def test_a_byte_order_mark_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "trials.txt").write_text("1 a b\n0 a c\n", encoding="utf-8-sig")
    assert len(read_trials(tmp_path / "trials.txt")) == 2


def test_missing_or_binary_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing", "binary"):
        with pytest.raises(UserError, match=name):
            read_trials(tmp_path / name)


@pytest.mark.parametrize(
    ("recording", "speaker"),
    [
        ("id10270/5r0dWxy17C8/00001.wav", "id10270"),
        ("dev/aac/id00012/21Uxsk56VDQ/00001.m4a", "id00012"),
        ("103-1240-0000.flac", "103"),
        ("anna_1.wav", "anna"),
        ("anna.wav", "anna"),
        ("anna-maria/1-2.wav", "anna-maria"),
        ("./id10270/1.wav", "id10270"),
    ],
)
def test_speaker_comes_from_the_path(recording: str, speaker: str) -> None:
    assert speaker_from_path(recording) == speaker


def test_speaker_mapping(tmp_path: Path) -> None:
    path = tmp_path / "speakers.txt"
    path.write_text("x/1.wav anna\ny/1.wav anna\n")
    speaker_of = speaker_from_mapping(path)
    assert speaker_of("x/1.wav") == speaker_of("y/1.wav") == "anna"
    with pytest.raises(UserError, match=r"z\.wav"):
        speaker_of("z.wav")
    path.write_text('x/1.wav anna\n./x/1.wav anna\n"x y.wav" bert\n')
    assert speaker_from_mapping(path)("x y.wav") == "bert"
    path.write_text("x/1.wav anna\n./x/1.wav bert\n")
    with pytest.raises(UserError, match=r":2: x/1\.wav again, with another speaker"):
        speaker_from_mapping(path)
    path.write_text("x/1.wav\n")
    with pytest.raises(UserError, match=":1: 1 fields"):
        speaker_from_mapping(path)


def test_finding_recordings(tmp_path: Path) -> None:
    for name in ("b/2.wav", "a/1.FLAC", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c").symlink_to(tmp_path / "b")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    assert find_recordings(tmp_path) == ["a/1.FLAC", "b/2.wav", "c/2.wav"]
    for name in ("2.m4a", "2.MP3", "3.m4a", "4.mp3", "5.sph", "video.mp4"):  # the first two as 2.wav, too
        (tmp_path / "b" / name).touch()
    assert find_recordings(tmp_path / "b") == ["2.wav", "3.m4a", "4.mp3", "5.sph"]
    with pytest.raises(UserError, match="no such folder"):
        find_recordings(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    Path(os.fsdecode(bytes(tmp_path) + b"/b/\xff.wav")).touch()
    with pytest.raises(UserError, match=r"udcff\.wav' is not UTF-8"):
        find_recordings(tmp_path)
    with pytest.raises(UserError, match=r"no recording in this folder, as no name ends in \.aac"):
        find_recordings(tmp_path / "empty")


def test_kaldis_form_is_told_by_its_labels(tmp_path: Path) -> None:
    (tmp_path / "trials").write_text("a/1.wav a/2.wav target\na/1.wav b/1.wav nontarget\n")
    trials = read_trials(tmp_path / "trials")
    assert trials.recordings == ("a/1.wav", "a/2.wav", "b/1.wav")
    assert [*trials.labels] == [True, False]
    assert [*trials.left] == [0, 0] and [*trials.right] == [1, 2]
