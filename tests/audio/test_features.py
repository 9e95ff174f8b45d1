"""The log-mel front end and its cache."""

import resource
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
import torch
from processes import Program
from torchaudio.compliance import kaldi

from speakerquant.audio.feature_extractor import FeatureExtractor, milliseconds
from speakerquant.audio.features import Features, extract_features
from speakerquant.audio.front_end import FrontEnd, FrontEndKind, Window
from speakerquant.cache import Cache
from speakerquant.errors import UserError

FRONT_END = FrontEnd()


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = []
    for index, seconds in enumerate([0.5, 2.0, 0.04, 1.234]):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(int(seconds * 16000)), 16000)
        paths.append(path)
    return paths


def test_features_do_not_depend_on_the_batch(recordings: list[Path], tmp_path: Path) -> None:
    batch = extract_features(recordings, FRONT_END, Cache(tmp_path / "a")).features
    extractor = FeatureExtractor(FRONT_END)
    for path, features in zip(recordings, batch, strict=True):
        waveform = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        alone = extractor(waveform[None])[0].numpy()
        assert features.shape == (80, 1 + (len(waveform) - FRONT_END.n_fft) // FRONT_END.hop_length)
        np.testing.assert_allclose(features, alone, atol=1e-4)
        np.testing.assert_allclose(features.mean(axis=1), 0.0, atol=1e-4)


def test_kaldis_frames_reach_beyond_the_ends_if_centred() -> None:
    waveform = np.random.default_rng(0).normal(size=8_000 + 30).astype(np.float32)
    centred, within = (
        FrontEnd(FrontEndKind.kaldi, center=center, window=Window.povey, subtract_mean=False)
        for center in (True, False)
    )
    features = FeatureExtractor(centred).extract(waveform)
    assert features.shape[1] == 50  # one for each 160 samples
    # The second frame begins at 1.5 * 160 - 400 / 2.
    inner = FeatureExtractor(within).extract(waveform[40:])
    np.testing.assert_allclose(features[:, 1 : 1 + inner.shape[1]], inner, atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000])
def test_kaldis_frames_are_as_long_and_as_far_apart_as_is_said(rate: int) -> None:
    waveform = torch.zeros(1, 2048)
    for length in range(2, 2049):
        told = milliseconds(length, rate)
        _, *taken = kaldi._get_waveform_and_window_properties(waveform, 0, rate, told, told, True, 0.97)
        assert taken[:2] == [length, length]
    front_end = FrontEnd(FrontEndKind.kaldi, rate, n_fft=256, win_length=254, hop_length=99, f_max=rate / 2)
    num_samples = 254 + 7 * 99
    assert FeatureExtractor(front_end).extract(np.ones(num_samples, np.float32)).shape == (80, 8)
    assert FeatureExtractor(front_end).extract(np.ones(num_samples - 1, np.float32)).shape == (80, 7)


def test_second_extraction_reads_the_cache_and_not_the_names(recordings: list[Path], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    first = extract_features(recordings, FRONT_END, cache)
    stamp = next((tmp_path / "cache" / "features").glob("*/frames.npy")).stat().st_mtime_ns
    moved = [path.rename(path.with_name(f"renamed-{path.name}")) for path in recordings]
    second = extract_features(moved, FRONT_END, cache)
    assert second.digest == first.digest
    assert next((tmp_path / "cache" / "features").glob("*/frames.npy")).stat().st_mtime_ns == stamp


@pytest.mark.parametrize("change", ["recording", "front end", "order"])
def test_what_determines_features_determines_the_digest(
    recordings: list[Path], tmp_path: Path, change: str
) -> None:
    cache = Cache(tmp_path / "cache")
    before = extract_features(recordings, FRONT_END, cache).digest
    front_end = FRONT_END
    if change == "recording":
        soundfile.write(recordings[0], np.full(8000, 0.25), 16000)
    elif change == "front end":
        front_end = FrontEnd(n_mels=40)
    else:
        recordings = recordings[::-1]
    assert extract_features(recordings, front_end, cache).digest != before


@pytest.mark.parametrize(
    ("front_end", "length"), [(FRONT_END, 512), (FrontEnd(FrontEndKind.kaldi, n_fft=1024), 400)]
)
def test_a_recording_has_one_frame_at_least(front_end: FrontEnd, length: int, tmp_path: Path) -> None:
    path, cache = tmp_path / "short.wav", Cache(tmp_path / "cache")
    soundfile.write(path, np.full(length, 0.1), 16000)
    assert extract_features([path], front_end, cache).features.num_frames == [1]
    soundfile.write(path, np.full(length - 1, 0.1), 16000)
    with pytest.raises(
        UserError, match=rf"{path}: {length - 1} samples are shorter than one frame of {length}"
    ):
        extract_features([path], front_end, cache)


def test_failed_extraction_leaves_nothing_in_the_cache(recordings: list[Path], tmp_path: Path) -> None:
    recordings[-1].write_bytes(recordings[-1].read_bytes()[:500])
    with pytest.raises(UserError, match="truncated"):
        extract_features(recordings, FRONT_END, Cache(tmp_path / "cache"))
    assert [*Cache(tmp_path / "cache").entries()] == []


class EditingCache(Cache):
    """A recording is edited once its content has told under which key its features are kept."""

    def read(self, kind: str, key: str, *args: Any, **keywords: Any) -> Any:
        soundfile.write(self.root.parent / "1.wav", np.full(32_000, 0.1), 16000)
        return super().read(kind, key, *args, **keywords)


def test_a_recording_that_is_edited_while_it_is_read_leaves_nothing_in_the_cache(
    recordings: list[Path], tmp_path: Path
) -> None:
    cache = EditingCache(tmp_path / "cache")
    with pytest.raises(UserError, match=r"1\.wav: changed while it was read; run the same command again"):
        extract_features(recordings, FRONT_END, cache)
    assert [*cache.entries()] == []


def test_memory_does_not_grow_with_what_was_read(tmp_path: Path) -> None:
    num_recordings, frames = 100, 3000
    np.save(tmp_path / "frames.npy", np.ones((num_recordings * frames, 80), np.float32))
    np.save(tmp_path / "offsets.npy", np.arange(0, num_recordings * frames + 1, frames))
    features = Features(tmp_path)
    before = psutil.Process().memory_info().rss
    assert all(item.shape == (80, frames) for item in features)
    assert psutil.Process().memory_info().rss - before < 20e6  # of 96 MB


@pytest.mark.parametrize(
    ("left", "doubt", "advice"),
    [
        (0.0, "silent throughout", False),
        (0.1, "its channel 2 is silent, and channels are averaged", True),
    ],
)
def test_useless_recordings_are_warned_of_from_the_cache_too(
    left: float,
    doubt: str,
    advice: bool,
    recordings: list[Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard = left * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(recordings[1], np.stack([heard, np.zeros(16000)], axis=1), 16000)
    for _ in range(2):
        caplog.clear()
        extract_features(recordings, FRONT_END, Cache(tmp_path / "cache"))
        assert f"{recordings[1]}: {doubt}" in caplog.messages
        [summary] = [each for each in caplog.messages if each.startswith("1 of 4 recordings say little")]
        assert ("data.channel" in summary) == advice


def test_another_channel_gives_other_features(tmp_path: Path) -> None:
    path, cache = tmp_path / "stereo.wav", Cache(tmp_path / "cache")
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((16000, 2)), 16000)
    average, left, right = (extract_features([path], FRONT_END, cache, channel) for channel in (None, 1, 2))
    assert len({average.digest, left.digest, right.digest}) == 3
    assert not np.allclose(left.features[0], right.features[0])


def extract_out_of_memory(folder: Path) -> None:
    cache = Cache(folder / "cache")
    extract_features([folder / "short.wav"], FRONT_END, cache)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
    try:
        extract_features([folder / "short.wav", folder / "long.wav"], FRONT_END, cache)
    except UserError as error:
        print(error)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_a_recording_too_long_for_the_memory_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, seconds in (("short", 1), ("long", 900)):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal(16000 * seconds), 16000)
    code, printed = Program(extract_out_of_memory, tmp_path).end()
    assert (code, printed.count("\n")) == (0, 1), printed
    assert printed.startswith(f"{tmp_path / 'long.wav'}: needs more memory than there is")
    assert len([*Cache(tmp_path / "cache").entries()]) == 1
