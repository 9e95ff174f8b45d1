"""The synthetic corpus: deterministic, disjoint, whole."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from processes import Program

from speakerquant.cache import Cache
from speakerquant.corpus import synthetic
from speakerquant.corpus.recordings import find_recordings, speaker_from_path
from speakerquant.corpus.synthetic import (
    CALIBRATION,
    DEVELOPMENT,
    TEST,
    TRAIN,
    TRIALS_FILE,
    Split,
    synthesize_split,
)
from speakerquant.corpus.trials import Trials, read_trials
from speakerquant.files import file_digest

pytestmark = pytest.mark.slow

pytest.importorskip("espeakng_loader", reason="the extra 'synthetic' is not installed")

SMALL = Split("test", num_speakers=3, num_sessions=2, num_utterances=2)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize_split(SMALL, 0, Cache(tmp_path_factory.mktemp("first")))


def test_same_seed_same_bytes_another_seed_others(small: Path, tmp_path: Path) -> None:
    again = synthesize_split(SMALL, 0, Cache(tmp_path))
    other = synthesize_split(SMALL, 1, Cache(tmp_path))
    for name in find_recordings(small):
        assert file_digest(small / name) == file_digest(again / name)
        assert file_digest(small / name) != file_digest(other / name)


def test_voice_does_not_depend_on_what_was_synthesised_before(small: Path, tmp_path: Path) -> None:
    larger = Split("test", num_speakers=5, num_sessions=2, num_utterances=2)
    folder = synthesize_split(larger, 0, Cache(tmp_path))
    for name in find_recordings(small):
        assert file_digest(small / name) == file_digest(folder / name)


def test_of_very_many_pairs_all_target_trials_are_listed(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "_MOST_PAIRS", 22)  # of 66
    thinned = read_trials(synthesize_split(SMALL, 0, Cache(tmp_path)) / TRIALS_FILE)
    whole = read_trials(small / TRIALS_FILE)

    def pairs(trials: Trials, *, target: bool) -> set[tuple[str, str]]:
        names = trials.recordings
        chosen = np.flatnonzero(trials.labels == target)
        return {(names[trials.left[index]], names[trials.right[index]]) for index in chosen}

    assert pairs(thinned, target=True) == pairs(whole, target=True)
    assert 8 < len(pairs(thinned, target=False)) < 28
    assert pairs(thinned, target=False) < pairs(whole, target=False)


def test_form_is_voxcelebs_and_speech_is_audible(small: Path) -> None:
    names = find_recordings(small)
    assert len(names) == 12
    assert names[0] == "test0000/session0/00000.wav"
    for name in names:
        waveform, rate = soundfile.read(small / name)
        assert rate == 16000
        assert len(waveform) > rate
        assert 0.5 < np.abs(waveform).max() <= 1.0


def test_trials_pair_everything_but_recordings_of_one_session(small: Path) -> None:
    trials = read_trials(small / TRIALS_FILE)
    assert len(trials) == 12 * 11 / 2 - 6
    for same, i, j in zip(trials.labels, trials.left, trials.right, strict=True):
        left, right = trials.recordings[i], trials.recordings[j]
        assert Path(left).parent != Path(right).parent
        assert same == (speaker_from_path(left) == speaker_from_path(right))


def test_test_list_is_large_enough_and_splits_share_no_speaker() -> None:
    recordings = TEST.num_speakers * TEST.num_sessions * TEST.num_utterances
    sessions = TEST.num_speakers * TEST.num_sessions
    same_session = sessions * TEST.num_utterances * (TEST.num_utterances - 1) // 2
    assert TEST.num_speakers == 40
    assert recordings * (recordings - 1) // 2 - same_session >= 20_000
    assert len({split.name for split in (TRAIN, CALIBRATION, DEVELOPMENT, TEST)}) == 4


def synthesize_many(folder: Path) -> None:
    synthesize_split(Split("test", 2000, 2, 2), 0, Cache(folder))


def test_killed_generation_leaves_no_half_corpus(tmp_path: Path) -> None:
    generation = Program(synthesize_many, tmp_path)
    while not list(tmp_path.rglob("*.wav")):
        assert generation.is_running
        time.sleep(0.05)
    generation.stop(signal.SIGKILL)
    generation.end()
    assert [path for path in (tmp_path / "synthetic").iterdir() if not path.name.startswith(".")] == []
