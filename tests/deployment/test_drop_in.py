"""Masks as files for others: names, layout, metadata and embeddings, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Subject, write_model
from torchaudio.compliance import kaldi

from speakerquant.architectures.family import FRONT_ENDS, Family
from speakerquant.architectures.interface import Interface
from speakerquant.architectures.onnx_file.front_end_metadata import front_end_of
from speakerquant.audio.feature_extractor import FeatureExtractor
from speakerquant.audio.front_end import FrontEnd, FrontEndKind, Window
from speakerquant.commands import export_mask
from speakerquant.deployment.clients import CLIENTS
from speakerquant.deployment.drop_in import write_drop_in
from speakerquant.engine.backends import engine_builder
from speakerquant.engine.base import FloatArray
from speakerquant.engine.provenance import FRONT_END, INTERFACE, MIN_FRAMES
from speakerquant.errors import UserError
from speakerquant.measuring.check import fidelity
from speakerquant.quantization.mask import Mask

SHERPA = FrontEnd(FrontEndKind.kaldi, f_max=7600.0, center=True, window=Window.povey)
WESPEAKER = FRONT_ENDS[Family.wespeaker]
WAVEFORM = np.random.default_rng(0).normal(scale=0.1, size=24_321).astype(np.float32)

Leave = Callable[..., Path]


@pytest.fixture
def leave(small: Subject, tmp_path: Path) -> Leave:
    """The graph of the small network that a run leaves."""

    def graph(
        precision: str = "fp32", front_end: FrontEnd = SHERPA, original: Interface | None = None
    ) -> Path:
        path = tmp_path / "model.onnx"
        properties = {
            FRONT_END: json.dumps(asdict(front_end)),
            INTERFACE: json.dumps(asdict(original or Interface())),
            MIN_FRAMES: str(small.network.min_frames),
            "mask": f"*={precision}",
        }
        mask = Mask(small.network.units(), {"*": precision})
        write_model(small.network, path, mask, small.table, properties=properties)
        return path

    return graph


def measured(graph: Path, features: FloatArray) -> FloatArray:
    """Embeddings ``[B, dim]`` of features ``[B, n_mels, T]`` by the engine that a run measures."""
    with engine_builder("onnxruntime").build(graph) as engine:
        return engine.embed(features)


def opened(file: Path) -> onnxruntime.InferenceSession:
    onnx.checker.check_model(onnx.load(file), full_check=True)
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def metadata(file: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(file).metadata_props}


@pytest.mark.parametrize(
    ("name", "front_end", "input_name", "output_name"),
    [("sherpa_onnx", SHERPA, "x", "embedding"), ("wespeaker", WESPEAKER, "feats", "embs")],
)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4", "int2"])
def test_a_client_gets_its_names_and_layout_and_the_measured_embeddings(
    leave: Leave,
    name: str,
    front_end: FrontEnd,
    input_name: str,
    output_name: str,
    precision: str,
    tmp_path: Path,
) -> None:
    graph, file = leave(precision, front_end), tmp_path / "drop_in.onnx"
    written = write_drop_in(graph, CLIENTS[name], file)
    assert written.agreement > 0.9999
    session = opened(file)
    [taken], [given] = session.get_inputs(), session.get_outputs()
    assert (taken.name, given.name) == (input_name, output_name)
    assert taken.shape[2] == 80
    for batch, frames in ((1, 40), (3, 171)):
        features = np.random.default_rng(frames).normal(size=(batch, 80, frames)).astype(np.float32)
        request = {input_name: np.ascontiguousarray(features.swapaxes(1, 2))}
        [embeddings] = session.run([output_name], request)
        assert fidelity(embeddings, measured(graph, features)) > 0.9999
    assert metadata(file)["mask"] == f"*={precision}"


def test_files_are_as_small_and_as_old_as_their_weights_allow(leave: Leave, tmp_path: Path) -> None:
    sizes = []
    for precision, opset, ir_version in (
        ("fp32", 17, 8),
        ("int8", 17, 8),
        ("int4", 21, 10),  # ONNX Runtime 1.19 to 1.22 refuse a later one
        ("int2", 25, 13),
    ):
        file = tmp_path / f"{precision}.onnx"
        written = write_drop_in(leave(precision), CLIENTS["onnx"], file)
        assert (written.opset, onnx.load(file).ir_version) == (opset, ir_version)
        assert written.size_bytes == file.stat().st_size
        sizes.append(written.size_bytes)
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("scale", [1.0, 32768.0])
@pytest.mark.parametrize("subtract_mean", [True, False])
def test_sherpa_onnx_is_told_the_front_end(
    leave: Leave, scale: float, subtract_mean: bool, tmp_path: Path
) -> None:
    front_end = replace(SHERPA, waveform_scale=scale, subtract_mean=subtract_mean)
    original = Interface(metadata={"language": "Klingon", "feature_normalize_type": "global-mean"})
    write_drop_in(leave("fp32", front_end, original), CLIENTS["sherpa_onnx"], tmp_path / "drop_in.onnx")
    told = metadata(tmp_path / "drop_in.onnx")
    assert front_end_of(told, 80) == front_end
    assert (told["language"], told["output_dim"]) == ("Klingon", "48")


def test_sherpa_onnx_gives_the_measured_embedding(leave: Leave, tmp_path: Path) -> None:
    sherpa_onnx = pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    graph, file = leave("int4"), tmp_path / "drop_in.onnx"
    write_drop_in(graph, CLIENTS["sherpa_onnx"], file)
    extractor = sherpa_onnx.SpeakerEmbeddingExtractor(
        sherpa_onnx.SpeakerEmbeddingExtractorConfig(model=str(file))
    )
    stream = extractor.create_stream()
    stream.accept_waveform(16000, WAVEFORM)
    stream.input_finished()
    theirs = np.array([extractor.compute(stream)], np.float32)
    ours = measured(graph, FeatureExtractor(SHERPA).extract(WAVEFORM)[np.newaxis])
    assert fidelity(theirs, ours) > 0.9999


def test_wespeakers_script_gives_the_measured_embedding(leave: Leave, tmp_path: Path) -> None:
    graph, file = leave("int4", WESPEAKER), tmp_path / "drop_in.onnx"
    write_drop_in(graph, CLIENTS["wespeaker"], file)
    features = kaldi.fbank(  # as its bin/infer_onnx.py has it
        torch.from_numpy(WAVEFORM)[None] * (1 << 15),
        num_mel_bins=80,
        frame_length=25,
        frame_shift=10,
        dither=0.0,
        sample_frequency=16000,
        window_type="hamming",
        use_energy=False,
    )
    features = features - torch.mean(features, dim=0)
    theirs = opened(file).run(output_names=["embs"], input_feed={"feats": features.unsqueeze(0).numpy()})[0]
    ours = measured(graph, FeatureExtractor(WESPEAKER).extract(WAVEFORM)[np.newaxis])
    assert fidelity(theirs, ours) > 0.9999


@pytest.mark.parametrize("time_last", [True, False])
@pytest.mark.parametrize(
    "names", [("audio", "vector"), ("embeddings", "features"), ("zero_point", "onnx::1")]
)
def test_without_a_client_the_file_is_asked_as_the_original_was(
    leave: Leave, time_last: bool, names: tuple[str, str], tmp_path: Path
) -> None:
    original = Interface(*names, time_last=time_last, metadata={"author": "somebody"})
    graph, file = leave("int8", FrontEnd(), original), tmp_path / "drop_in.onnx"
    write_drop_in(graph, CLIENTS["onnx"], file)
    features = np.random.default_rng(0).normal(size=(2, 80, 77)).astype(np.float32)
    request = features if time_last else np.ascontiguousarray(features.swapaxes(1, 2))
    [embeddings] = opened(file).run([names[1]], {names[0]: request})
    assert fidelity(embeddings, measured(graph, features)) > 0.9999
    assert metadata(file)["author"] == "somebody"


@pytest.mark.parametrize(("precision", "is_told"), [("int8_dynamic", True), ("int4_dynamic", False)])
def test_recordings_that_change_each_other_in_a_batch_are_told(
    leave: Leave, precision: str, is_told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "drop_in.onnx"
    export_mask.export(str(leave(precision)), file, "onnx")
    assert ("give it one recording a request" in capsys.readouterr().out) == is_told
    quiet, loud = np.random.default_rng(0).normal(size=(2, 80, 60)).astype(np.float32) * [[[1]], [[20]]]
    alone, together = (
        opened(file).run(None, {"features": np.stack(each).astype(np.float32)})[0][:1]
        for each in ([quiet], [quiet, loud])
    )
    assert (fidelity(alone, together) < 0.9999) == is_told


@pytest.mark.parametrize(
    ("name", "front_end", "what"),
    [
        ("sherpa_onnx", FRONT_ENDS[Family.three_d_speaker], "f_max=7600.0, center=True, and the mask"),
        ("sherpa_onnx", FrontEnd(), "kind=kaldi, center=True, window=povey, and"),
        ("sherpa_onnx", FRONT_ENDS[Family.speechbrain], "measured with kind=speechbrain, n_fft=400"),
        ("wespeaker", SHERPA, "window=hamming, waveform_scale=32768.0, and the mask"),
    ],
)
def test_other_features_than_the_measured_ones_are_refused(
    leave: Leave, name: str, front_end: FrontEnd, what: str, tmp_path: Path
) -> None:
    file = tmp_path / "drop_in.onnx"
    file.write_text("the one in use")
    with pytest.raises(UserError, match=rf"computes features with .*{what}.*model/front_end={name}"):
        write_drop_in(leave("fp32", front_end), CLIENTS[name], file)
    assert file.read_text() == "the one in use"


@pytest.mark.parametrize("spoil", ["written for a client", "cut", "a folder"])
def test_what_is_no_graph_of_a_run_is_refused(leave: Leave, spoil: str, tmp_path: Path) -> None:
    graph, file = leave(), tmp_path / "drop_in.onnx"
    if spoil == "written for a client":
        write_drop_in(graph, CLIENTS["onnx"], tmp_path / "written.onnx")
        graph = tmp_path / "written.onnx"
    elif spoil == "cut":
        graph.write_bytes(graph.read_bytes()[:1000])
    else:
        graph = tmp_path
    with pytest.raises(UserError, match=str(graph)):
        write_drop_in(graph, CLIENTS["onnx"], file)
    assert not file.exists()


def test_a_folder_is_no_output(leave: Leave, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^{tmp_path}: a folder; name the file to write"):
        write_drop_in(leave(), CLIENTS["onnx"], tmp_path)
