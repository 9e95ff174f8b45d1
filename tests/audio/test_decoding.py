"""Every format that the decoders know arrives whole, and no file that was cut passes for a whole one."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakerquant.audio.decoding import decode
from speakerquant.audio.waveform import read_random_part, read_waveform
from speakerquant.errors import UserError

pytestmark = pytest.mark.slow

RATE = 16000
NUM_SAMPLES = 4 * RATE

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")

# What libsndfile writes: name of the file, its format if the suffix does not tell it, its codec.
STORED = {
    "pcm": ("x.wav", None, "PCM_16"),
    "float": ("x.wav", None, "FLOAT"),
    "mu-law": ("x.wav", None, "ULAW"),
    "GSM 6.10": ("x.wav", None, "GSM610"),
    "IMA ADPCM": ("x.wav", None, "IMA_ADPCM"),
    "NMS ADPCM": ("x.wav", None, "NMS_ADPCM_16"),
    "flac": ("x.flac", None, None),
    "aiff": ("x.aiff", None, None),
    "au": ("x.au", None, None),
    "caf": ("x.caf", None, None),
    "wave64": ("x.w64", None, None),
    "rf64": ("x.wav", "RF64", "PCM_16"),
    "sphere": ("x.sph", "NIST", None),
    "voc": ("x.voc", "VOC", None),
    "vorbis": ("x.ogg", None, "VORBIS"),
    "opus": ("x.opus", "OGG", "OPUS"),
    "mp3": ("x.mp3", None, "MPEG_LAYER_III"),
}
# What ffmpeg writes: name of the file, and options.
WRITTEN_BY_FFMPEG = {
    "m4a, index first": ("x.m4a", ["-movflags", "+faststart"]),
    "m4a, index last": ("x.m4a", []),
    "m4a, in fragments": ("x.m4a", ["-movflags", "+frag_keyframe+empty_moov", "-frag_duration", "500000"]),
    "aac": ("x.aac", []),
    "webm": ("x.webm", []),
    "wma": ("x.wma", []),
    "opus": ("x.opus", []),
    "mp3": ("x.mp3", []),
    "mp3 in wav": ("x.wav", ["-c:a", "libmp3lame"]),
}


def speechlike() -> np.ndarray:
    """Noise under a spectrum that every codec keeps, with pauses."""
    noise = np.convolve(np.random.default_rng(0).standard_normal(NUM_SAMPLES), np.ones(16) / 16, "same")
    return (0.3 * noise * (1 + np.sin(np.arange(NUM_SAMPLES) / 3000))).astype(np.float32)


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * share)])


def assert_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match="truncated") as caught:
        read_waveform(path, RATE)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", STORED)
def test_what_libsndfile_writes(kind: str, tmp_path: Path) -> None:
    name, container, codec = STORED[kind]
    rate = 8000 if kind == "GSM 6.10" else RATE
    path = tmp_path / name
    soundfile.write(path, speechlike()[:: RATE // rate], rate, format=container, subtype=codec)
    sound = decode(path)
    assert sound.sample_rate == rate
    assert abs(len(sound.samples) - NUM_SAMPLES * rate // RATE) <= 0.05 * rate
    assert np.corrcoef(sound.samples[:20000, 0], speechlike()[:: RATE // rate][:20000])[0, 1] > 0.9
    whole = path.read_bytes()
    for share in (0.3, 0.66, 0.97):
        path.write_bytes(whole)
        cut(path, share)
        assert_is_refused(path)


@needs_ffmpeg
@pytest.mark.parametrize("kind", WRITTEN_BY_FFMPEG)
def test_what_ffmpeg_writes(kind: str, tmp_path: Path) -> None:
    name, options = WRITTEN_BY_FFMPEG[kind]
    source, path = tmp_path / "source.wav", tmp_path / name
    soundfile.write(source, speechlike(), RATE)
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", source, "-ar", str(RATE), *options, path]
    subprocess.run(command, check=True)
    assert abs(len(read_waveform(path, RATE)) - NUM_SAMPLES) <= 0.15 * RATE
    whole = path.read_bytes()
    for share in (0.3, 0.66):
        path.write_bytes(whole)
        cut(path, share)
        assert_is_refused(path)


def open_length_flac(path: Path) -> None:
    """As ``flac`` and ffmpeg write to a pipe: STREAMINFO's number of samples is 0."""
    soundfile.write(path, speechlike(), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)


@needs_ffmpeg
def test_a_flac_that_leaves_its_length_open_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    open_length_flac(path)
    np.testing.assert_allclose(read_waveform(path, RATE), speechlike(), atol=1e-4)
    part = read_random_part(path, RATE, RATE, np.random.default_rng(0))
    assert len(part) == RATE and part.std() > 0.01
    cut(path, 0.5)
    assert_is_refused(path)


@pytest.mark.parametrize(
    "promised",
    [0xFFFFFFFF, 0x7FFFF000, 0x7F000008, pytest.param(0, marks=needs_ffmpeg)],
    ids=["ffmpeg", "sox", "sox's aiff", "killed recorder"],
)
def test_a_wav_that_leaves_its_length_open_is_read(promised: int, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, speechlike(), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = promised.to_bytes(4, "little")
    path.write_bytes(content)
    np.testing.assert_allclose(read_waveform(path, RATE), speechlike(), atol=1e-4)


@pytest.mark.parametrize("name", ["x.flac", "x.wma"])
def test_what_only_ffmpeg_reads_is_not_called_damaged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    if name == "x.flac":
        open_length_flac(path)
    else:
        path.write_bytes(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") * 100)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs ffmpeg, which is not installed") as caught:
        read_waveform(path, RATE)
    assert "truncated" not in str(caught.value) and "\n" not in str(caught.value)
