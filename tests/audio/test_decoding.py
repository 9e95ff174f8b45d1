"""Every format that the decoders know arrives whole, and no file that was cut passes for a whole one."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from av.container import OutputContainer

from speakerquant.audio.decoding import EXTENSIONS, decode
from speakerquant.audio.waveform import inspect_waveform, read_random_part, read_waveform
from speakerquant.errors import UserError

pytestmark = pytest.mark.slow

RATE = 16000
NUM_SAMPLES = 4 * RATE
SHORTEN_BLOCK = 256  # samples

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
    "aif": ("x.aif", "AIFF", None),
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
# What FFmpeg writes: name of the file, its codec, options of the container.
WRITTEN_BY_FFMPEG = {
    "m4a, index first": ("x.m4a", "aac", {"movflags": "faststart"}),
    "m4a, index last": ("x.m4a", "aac", {}),
    "m4a, in fragments": (
        "x.m4a",
        "aac",
        {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"},
    ),
    "aac": ("x.aac", "aac", {}),
    "alac": ("x.m4a", "alac", {}),
    "amr": ("x.amr", "libopencore_amrnb", {}),
    "webm": ("x.webm", "libopus", {}),
    "wma": ("x.wma", "wmav2", {}),
    "opus": ("x.opus", "libopus", {}),
    "opus in mp4": ("x.mp4", "libopus", {}),
    "flac in ogg": ("x.oga", "flac", {}),
    "alac in caf": ("x.caf", "alac", {}),
    "g.722 in wav": ("x.wav", "g722", {}),
    "mp3": ("x.mp3", "libmp3lame", {}),
    "mp3 in wav": ("x.wav", "libmp3lame", {}),
}


VIDEO = {".mp4", ".webm"}  # which may hold sound alone


def test_whatever_is_found_in_folders_is_decoded_below() -> None:
    tried = {Path(name).suffix for name, *_ in (*STORED.values(), *WRITTEN_BY_FFMPEG.values())}
    assert tried - VIDEO == EXTENSIONS


def speechlike() -> np.ndarray:
    """Noise under a spectrum that every codec keeps, with pauses."""
    noise = np.convolve(np.random.default_rng(0).standard_normal(NUM_SAMPLES), np.ones(16) / 16, "same")
    return (0.3 * noise * (1 + np.sin(np.arange(NUM_SAMPLES) / 3000))).astype(np.float32)


def write(path: Path, *recordings: np.ndarray, codec: str = "aac", rate: int = RATE, **options: str) -> None:
    """Encode each recording as one audio stream of a file."""
    with av.open(path, "w", container_options=options) as container:
        streams = [container.add_stream(codec, rate=rate, layout="mono", bit_rate=32000) for _ in recordings]
        for stream, recording in zip(streams, recordings, strict=True):
            encode(container, stream, recording)


def encode(container: OutputContainer, stream: av.AudioStream, recording: np.ndarray) -> None:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(recording[None]), "flt", "mono")
    frame.sample_rate, frame.time_base, frame.pts = stream.rate, Fraction(1, stream.rate), 0
    for part in (*av.AudioResampler(stream.format, "mono", stream.rate).resample(frame), None):
        container.mux(stream.encode(part))


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


@pytest.mark.parametrize("kind", WRITTEN_BY_FFMPEG)
def test_what_ffmpeg_writes(kind: str, tmp_path: Path) -> None:
    name, codec, options = WRITTEN_BY_FFMPEG[kind]
    path, rate = tmp_path / name, 8000 if kind == "amr" else RATE
    write(path, speechlike()[:: RATE // rate], codec=codec, rate=rate, **options)
    decoded = read_waveform(path, RATE)
    assert abs(len(decoded) - NUM_SAMPLES) <= 0.15 * RATE
    whole = path.read_bytes()
    for share in (0.3, 0.66):
        path.write_bytes(whole)
        cut(path, share)
        assert_is_refused(path)


def tag(content: bytes) -> bytes:
    """An ID3v2 tag, whose length stands in seven bits of each byte."""
    length = bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + length + content


@pytest.mark.parametrize(("num_tags", "padding"), [(0, 0), (1, 0), (2, 0), (1, 64)])
def test_an_mp3_says_how_long_it_is_behind_its_cover(num_tags: int, padding: int, tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    write(path, speechlike(), codec="libmp3lame", id3v2_version="0")
    whole = tag(bytes(100_000)) * num_tags + bytes(padding) + path.read_bytes()
    path.write_bytes(whole)
    assert len(read_waveform(path, RATE)) == pytest.approx(NUM_SAMPLES, abs=0.15 * RATE)
    path.write_bytes(whole[: -len(whole) // 20])
    assert_is_refused(path)


def test_titles_of_an_mp3_do_not_count_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    quiet_first = np.concatenate([np.zeros(4 * RATE, np.float32), *[speechlike()] * 3])
    write(path, quiet_first, codec="libmp3lame", id3v2_version="0", write_xing="0")
    path.write_bytes(tag(b"Info: interview" + bytes(500)) + path.read_bytes())
    assert len(read_waveform(path, RATE)) == pytest.approx(4 * NUM_SAMPLES, abs=0.15 * RATE)


def golomb(number: int, num_bits: int) -> str:
    return "0" * (number >> num_bits) + f"1{number & (1 << num_bits) - 1:0{num_bits}b}"


def shortened(samples: np.ndarray) -> bytes:
    """A stream of shorten, without prediction: each sample in 16 bits, of which the last is its sign."""
    header = [5, 1, SHORTEN_BLOCK, 0, 0, 0]  # 16 bits, channels, samples of a block, no filters and no means
    bits = "".join(
        golomb(each.bit_length() or 1, 2) + golomb(each, each.bit_length() or 1) for each in header
    )
    for block in np.split(
        np.where(samples < 0, -2 * samples - 1, 2 * samples), len(samples) // SHORTEN_BLOCK
    ):
        bits += golomb(0, 2) + golomb(15, 3) + "".join(golomb(each, 16) for each in block.tolist())
    bits += golomb(4, 2)
    num_words = -(-len(bits) // 32)
    return b"ajkg\2" + int(bits.ljust(32 * num_words, "0"), 2).to_bytes(4 * num_words)


def sphere(coding: str, content: bytes) -> bytes:
    fields = [f"sample_count -i {NUM_SAMPLES}", f"sample_rate -i {RATE}", "channel_count -i 1"]
    fields += ["sample_n_bytes -i 2", "sample_byte_format -s2 01", f"sample_coding -s{len(coding)} {coding}"]
    return "\n".join(["NIST_1A", "   1024", *fields, "end_head", ""]).encode().ljust(1024) + content


def test_shortened_sphere_files_are_read(tmp_path: Path) -> None:
    path, samples = tmp_path / "x.sph", (30000 * speechlike()).astype(np.int32)
    whole = sphere("pcm,embedded-shorten-v2.00", shortened(samples))
    path.write_bytes(whole)
    np.testing.assert_allclose(read_waveform(path, RATE), samples / 2**15, atol=1e-6)
    for share in (0.3, 0.66, 0.97):
        path.write_bytes(whole)
        cut(path, share)
        assert_is_refused(path)
    path.write_bytes(sphere("ulaw,embedded-shorten-v2.00", shortened(samples)))
    with pytest.raises(
        UserError, match=r"x\.sph: cannot read the recording, in which is no audio that FFmpeg"
    ):
        read_waveform(path, RATE)


def test_what_is_cut_between_packets_is_shorter_than_promised(tmp_path: Path) -> None:
    path = tmp_path / "x.m4a"
    write(path, speechlike(), movflags="faststart")
    with av.open(path) as container:
        ends = [packet.pos + packet.size for packet in container.demux(audio=0) if packet.size]
    path.write_bytes(path.read_bytes()[: ends[len(ends) // 2]])
    assert_is_refused(path)


def open_length_flac(path: Path) -> None:
    """As ``flac`` and ffmpeg write to a pipe: STREAMINFO's number of samples is 0."""
    soundfile.write(path, speechlike(), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)


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
    [0xFFFFFFFF, 0x7FFFF000, 0x7F000008, 0],
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


def test_an_ogg_file_cut_in_its_headers_is_called_truncated(tmp_path: Path) -> None:
    path = tmp_path / "x.ogg"
    soundfile.write(path, speechlike(), RATE)
    whole = path.read_bytes()
    for num_bytes in (20, 100, 2000, 4000):
        path.write_bytes(whole[:num_bytes])
        assert_is_refused(path)


@pytest.mark.parametrize("name", ["x.ogg", "x.opus"])
def test_an_ogg_file_whose_end_is_not_marked_is_read_with_doubt(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    soundfile.write(path, speechlike(), RATE, format="OGG", subtype="OPUS" if name == "x.opus" else "VORBIS")
    marked = inspect_waveform(path, RATE)
    content = path.read_bytes()
    last = bytearray(content[content.rindex(b"OggS") :])
    last[5] &= ~4
    last[22:26] = bytes(4)
    last[22:26] = checksum(last).to_bytes(4, "little")
    path.write_bytes(content[: content.rindex(b"OggS")] + last)
    found = inspect_waveform(path, RATE)
    assert (
        marked.doubt is None and found.doubt == "the end of its stream is not marked, so that it may be cut"
    )
    assert len(found.waveform) == pytest.approx(len(marked.waveform), abs=RATE / 10)


def checksum(page: bytes) -> int:
    """Of a page of Ogg (RFC 3533)."""
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if register >> 31 else 0)
    return register


@pytest.mark.parametrize("kind", ["m4a, index last", "alac", "webm", "opus", "mp3"])
def test_what_encoders_put_in_front_is_left_out(kind: str, tmp_path: Path) -> None:
    name, codec, options = WRITTEN_BY_FFMPEG[kind]
    write(tmp_path / name, speechlike(), codec=codec, **options)
    decoded = read_waveform(tmp_path / name, RATE)
    assert np.corrcoef(decoded[:20000], speechlike()[:20000])[0, 1] > 0.95


def test_gsm_as_telephony_stores_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.gsm", speechlike()[::2], 8000, format="RAW", subtype="GSM610")
    sound = decode(tmp_path / "x.gsm")
    assert sound.samples.shape == (NUM_SAMPLES // 2, 1) and sound.sample_rate == 8000
    assert np.corrcoef(sound.samples[:20000, 0], speechlike()[::2][:20000])[0, 1] > 0.9


@pytest.mark.parametrize(("name", "codec"), [("x.m4a", "alac"), ("x.mka", "flac")])
def test_the_first_of_several_audio_streams_is_decoded(name: str, codec: str, tmp_path: Path) -> None:
    first = speechlike()[: NUM_SAMPLES // 2]
    write(tmp_path / name, first, -speechlike(), codec=codec)
    np.testing.assert_allclose(decode(tmp_path / name).samples[:, 0], first, atol=1e-4)


def test_of_a_video_only_the_sound_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    with av.open(path, "w") as container:
        video = container.add_stream("mpeg4", rate=1, width=32, height=32, pix_fmt="yuv420p")
        audio = container.add_stream("alac", rate=RATE, layout="mono")
        for number in range(9):  # seconds, more than of sound
            frame = av.VideoFrame(32, 32, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        encode(container, audio, speechlike())
    np.testing.assert_allclose(decode(path).samples[:, 0], speechlike(), atol=1e-4)


def test_a_rate_that_changes_within_becomes_the_first(tmp_path: Path) -> None:
    write(tmp_path / "a.aac", speechlike())
    write(tmp_path / "b.aac", speechlike()[::2], rate=8000)
    (tmp_path / "x.aac").write_bytes((tmp_path / "a.aac").read_bytes() + (tmp_path / "b.aac").read_bytes())
    sound = decode(tmp_path / "x.aac")
    assert sound.sample_rate == RATE
    assert abs(len(sound.samples) - 2 * NUM_SAMPLES) <= 0.4 * RATE


def test_labels_in_another_encoding_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "x.m4a"
    write(path, speechlike())
    path.write_bytes(path.read_bytes().replace(b"Lavf", "Zoë ".encode("latin-1")))
    assert len(read_waveform(path, RATE)) >= NUM_SAMPLES


def test_each_of_many_files_is_judged_by_itself(tmp_path: Path) -> None:
    """Also in threads, and where the same complaint comes twice, which alone tells what is missing."""
    whole, damaged = tmp_path / "whole.webm", tmp_path / "damaged.webm"
    write(whole, speechlike(), codec="libopus")
    damaged.write_bytes(whole.read_bytes())
    cut(damaged, 0.97)

    def is_refused(path: Path) -> bool:
        try:
            return not len(decode(path).samples)
        except UserError:
            return True

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(is_refused, [whole, damaged] * 12)) == [False, True] * 12


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.ffconcat", "ffconcat version 1.0\nfile other.m4a\n"),
        ("x.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\nother.aac\n#EXT-X-ENDLIST\n"),
        ("x.sdp", "v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n"),
        ("x.wav", "This is no audio.\n" * 100),
    ],
)
def test_a_file_that_names_others_opens_none(name: str, text: str, tmp_path: Path) -> None:
    for other in ("other.m4a", "other.aac"):
        write(tmp_path / other, speechlike())
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="cannot read the recording") as caught:
        read_waveform(tmp_path / name, RATE)
    assert "\n" not in str(caught.value)
