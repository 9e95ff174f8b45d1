"""Reading recordings of every kind, and saying clearly why one cannot be read."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakerquant.audio.waveform import inspect_waveform, read_random_part, read_waveform, resample
from speakerquant.errors import UserError

RATE = 16000


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize("extension", ["wav", "flac"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_any_sample_rate_arrives_as_the_same_tone(tmp_path: Path, extension: str, rate: int) -> None:
    path = tmp_path / f"tone.{extension}"
    soundfile.write(path, tone(rate), rate)
    waveform = read_waveform(path, RATE)
    assert abs(len(waveform) - RATE) <= 1
    inner = slice(1000, 15000)
    assert np.abs(waveform[inner] - tone(RATE)[inner]).max() < 0.01


@pytest.mark.parametrize("rate", [11127, 16001])
def test_rates_with_nothing_in_common_take_no_large_filter(rate: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    resampled = resample(tone, rate, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert resampled.dtype == np.float32
    np.testing.assert_allclose(resampled[500:-500], expected[500:-500], atol=0.01)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left, right = tone(RATE), np.zeros(RATE)
    soundfile.write(path, np.stack([left, right], axis=1), RATE)
    assert np.abs(read_waveform(path, RATE) - left / 2).max() < 1e-3


@pytest.mark.parametrize("extension", ["wav", "flac"])
@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_random_part_has_the_length_asked_for(tmp_path: Path, extension: str, seconds: float) -> None:
    path = tmp_path / f"tone.{extension}"
    soundfile.write(path, tone(RATE, seconds), RATE)
    rng = np.random.default_rng(0)
    parts = [read_random_part(path, RATE, RATE, rng) for _ in range(3)]
    assert {len(part) for part in parts} == {RATE}
    assert not np.array_equal(parts[0], parts[1])


def test_random_part_of_a_damaged_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 10 * RATE), RATE)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UserError, match=str(path)):
        for seed in range(20):
            read_random_part(path, RATE, RATE, np.random.default_rng(seed))


def _missing(path: Path) -> None:
    pass


def _no_bytes(path: Path) -> None:
    path.touch()


def _no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), RATE)


def _cut(path: Path) -> None:
    soundfile.write(path, tone(RATE), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _not_audio(path: Path) -> None:
    path.write_text("this is a letter, not a recording")


def _nan(path: Path) -> None:
    samples = tone(RATE).astype(np.float32)
    samples[100] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("extension", "spoil", "said"),
    [
        ("wav", _missing, "no such recording"),
        ("wav", _no_bytes, "empty"),
        ("flac", _no_bytes, "empty"),
        ("wav", _no_samples, "empty"),
        ("wav", _cut, "truncated"),
        ("flac", _cut, "truncated"),
        ("wav", _not_audio, "cannot read"),
        ("wav", _nan, "NaN"),
    ],
)
def test_unusable_recording_is_refused_in_one_line_with_its_path(
    tmp_path: Path, extension: str, spoil, said: str
) -> None:
    path = tmp_path / f"recording.{extension}"
    spoil(path)
    with pytest.raises(UserError) as caught:
        read_waveform(path, RATE)
    message = str(caught.value)
    assert said in message
    assert str(path) in message
    assert "\n" not in message


def speech() -> np.ndarray:
    rng = np.random.default_rng(0)
    return 0.1 * rng.standard_normal(RATE) * (1 + np.sin(np.arange(RATE) / 500))


@pytest.mark.parametrize(
    ("samples", "doubt"),
    [
        (speech(), None),
        (0.001 * speech(), None),
        (np.stack([speech(), speech()], axis=1), None),
        (np.zeros(RATE), "silent throughout"),
        (np.random.default_rng(0).integers(-1, 2, RATE) / 2**15, "silent throughout"),
        (np.full(RATE, 0.2), "constant throughout"),
        (np.clip(100 * speech(), -1, 1), "clipped throughout"),
        (np.stack([speech(), -speech()], axis=1), "channels cancel each other"),
        (np.stack([speech(), -0.95 * speech()], axis=1), "channels cancel each other"),
        (np.stack([speech(), np.zeros(RATE)], axis=1), "channel 2 is silent"),
        (np.zeros((RATE, 2)), "silent throughout"),
    ],
)
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_what_can_be_read_and_is_of_no_use_is_told(
    tmp_path: Path, samples: np.ndarray, doubt: str | None, subtype: str
) -> None:
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype=subtype)
    found = inspect_waveform(tmp_path / "x.wav", RATE).doubt
    assert found is None if doubt is None else doubt in str(found)
    assert "data." not in str(found)  # which not all commands have


def test_a_channel_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([speech(), -speech()], axis=1), RATE, subtype="FLOAT")
    for channel, sign in ((1, 1), (2, -1)):
        chosen = inspect_waveform(path, RATE, channel)
        np.testing.assert_allclose(chosen.waveform, sign * speech(), atol=1e-6)
        assert chosen.doubt is None
    with pytest.raises(UserError, match=r"has no channel 3, only 2; give recordings with it$"):
        read_waveform(path, RATE, 3)
