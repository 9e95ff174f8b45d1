"""Where recordings are: folders, wav.scp, csv; and compressed ones."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakerquant.audio.waveform import read_waveform
from speakerquant.corpus.evaluation_data import open_evaluation_data
from speakerquant.corpus.recordings import open_recordings
from speakerquant.corpus.trials import write_trials
from speakerquant.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for speaker in ("id1", "id2", "id3", "id4"):
        for video in ("x", "y"):
            path = tmp_path / "wav" / speaker / video / "00001.wav"
            path.parent.mkdir(parents=True)
            soundfile.write(path, 0.1 * np.sin(np.arange(8000) / 9), 16000)
    return tmp_path / "wav"


def test_a_table_is_a_folder_by_other_means(root: Path, tmp_path: Path) -> None:
    names = ["id1/x/00001.wav", "id2/y/00001.wav"]
    (tmp_path / "wav.scp").write_text("".join(f"{name} {root / name}\n" for name in names))
    (tmp_path / "relative.scp").write_text("".join(f"{name} wav/{name}\n" for name in names))
    rows = "".join(f"{name},1.0,{root / name},{name[:3]}\n" for name in names)
    (tmp_path / "list.csv").write_text("ID,duration,wav,spk_id\n" + rows)
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


def test_m4a_without_ffmpeg_gives_the_command_that_converts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "aac" / "id00012" / "video" / "00001.m4a"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"content")
    with pytest.raises(UserError) as caught:
        read_waveform(path, 16000)
    assert f"find {tmp_path / 'aac'} -name '*.m4a' -exec sh -c" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_m4a_is_decoded(root: Path, tmp_path: Path) -> None:
    source, path = root / "id1/x/00001.wav", tmp_path / "00001.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, path], check=True, stdin=subprocess.DEVNULL)
    original, decoded = read_waveform(source, 16000), read_waveform(path, 16000)
    assert len(original) <= len(decoded) <= len(original) + 4096
    assert np.corrcoef(original[2000:6000], decoded[2000:6000])[0, 1] > 0.99
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="truncated or damaged") as caught:
        read_waveform(path, 16000)
    assert "\n" not in str(caught.value)
