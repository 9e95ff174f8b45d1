"""What masks share: its keys, and what rounding is given of the recordings."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import Subject, cached_features, speechlike
from torch import nn
from toy_network import ToyConfig

from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.audio.features import CachedFeatures, extract_features
from speakerquant.audio.front_end import FrontEnd
from speakerquant.cache import Cache
from speakerquant.errors import UserError
from speakerquant.graph.export import OPSET
from speakerquant.measuring.settings import EvaluationSettings
from speakerquant.measuring.shared import exported_network, measured_ranges, pieces_of, rounding_of
from speakerquant.quantization.rounding_method import RoundingMethod


def test_pieces_lie_beside_each_other() -> None:
    recording = torch.arange(10.0).expand(2, 10)
    assert [piece[0].tolist() for piece in pieces_of(recording, 2, 4)] == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert pieces_of(recording, 9, 4).shape == (2, 2, 4), "no more than there are"
    assert pieces_of(recording, 1, 4)[0, 0].tolist() == [3, 4, 5, 6], "from the middle"
    assert pieces_of(recording, 3, 99).shape == (1, 2, 10), "a short one whole"


def test_few_recordings_give_several_pieces_and_are_said_to_be_few(
    small: Subject, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All that a layer behind the pooling sees of a recording are as many vectors as it gives pieces."""
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.wav" for index in range(2)]
    for path in paths:
        soundfile.write(path, 0.1 * generator.standard_normal(7 * 16000), 16000)
    model, cache = SpeakerModel(small.network, FrontEnd(), "small"), Cache(tmp_path / "cache")
    speech = extract_features(paths, model.front_end, cache)
    ranks = []
    for number in (2, 4):
        rounding = rounding_of(model, lambda: speech, EvaluationSettings(rounding_recordings=number), cache)
        assert rounding.gather is not None
        with caplog.at_level(logging.WARNING):
            hessian = rounding.gather()["embedding_linear"].sum(axis=0)[0]
        ranks.append(np.linalg.matrix_rank(hessian, hermitian=True))
    assert ranks == [2, 4]
    assert "rounding weights for 2 recordings" in caplog.text and "rounding.root" in caplog.text


@pytest.mark.parametrize("change", ["model", "recordings", "method", "percentile"])
def test_what_determines_ranges_determines_their_key(small: Subject, tmp_path: Path, change: str) -> None:
    cache = Cache(tmp_path / "cache")
    speech, other_speech = (
        cached_features(speechlike(1, seed=0), tmp_path / name) for name in ("speech", "other speech")
    )
    made = {
        "model": SpeakerModel(small.network, FrontEnd(), "small"),
        "recordings": speech,
        "method": "percentile",
        "percentile": 99.0,
    }
    others = {
        "model": SpeakerModel(small.network, FrontEnd(), "another"),
        "recordings": other_speech,
        "method": "max",
        "percentile": 90.0,
    }
    for given in (made, made, {**made, change: others[change]}):
        measured_ranges(**given, cache=cache)
    assert len([*cache.entries()]) == 2


@pytest.mark.parametrize("change", ["model", "speech", "settings"])
def test_what_determines_rounding_determines_its_keys(small: Subject, tmp_path: Path, change: str) -> None:
    """Those of the Hessians, and of the integers that are rounded by them."""
    cache = Cache(tmp_path / "cache")
    speech, other_speech = (
        cached_features(speechlike(1, seed=0), tmp_path / name) for name in ("speech", "other speech")
    )
    made = {
        "model": SpeakerModel(small.network, FrontEnd(), "small"),
        "speech": lambda: speech,
        "settings": EvaluationSettings(rounding_recordings=1),
    }
    others = {
        "model": SpeakerModel(small.network, FrontEnd(), "another"),
        "speech": lambda: other_speech,
        "settings": EvaluationSettings(rounding_recordings=2),
    }
    roundings = [rounding_of(**given, cache=cache) for given in (made, {**made, change: others[change]})]
    for each in roundings:
        assert each.gather is not None
        each.gather()
    assert len([*cache.entries()]) == 2
    assert roundings[0].origin != roundings[1].origin


def test_a_later_version_of_onnx_is_made_once_of_what_is_exported_once(
    small: Subject, tmp_path: Path
) -> None:
    model, cache, later = SpeakerModel(small.network, FrontEnd(), "small"), Cache(tmp_path), OPSET + 4
    made = []
    for opset in (OPSET, later, OPSET, later):
        graph = exported_network(model, opset, cache)
        assert [each.version for each in graph.opset_import if not each.domain] == [opset]
        made.append({(entry.path.name, entry.path.stat().st_ino) for entry in cache.entries()})
    assert [len(each) for each in made] == [1, 2, 2, 2]
    assert made[0] < made[1] == made[2] == made[3]


def test_the_nearest_integers_are_those_of_their_checkpoint(small: Subject, tmp_path: Path) -> None:
    def speech() -> CachedFeatures:
        raise AssertionError("none is needed")

    settings = EvaluationSettings(rounding=RoundingMethod.nearest)
    models = [SpeakerModel(small.network, FrontEnd(), digest) for digest in ("small", "another")]
    one, other = (rounding_of(model, speech, settings, Cache(tmp_path)).origin for model in models)
    assert one != other


class SelfAttention(SpeakerNetwork):
    """Each frame attends to all, by PyTorch's own layer."""

    min_frames = 1

    def __init__(self) -> None:
        super().__init__(ToyConfig(n_mels=16))
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.embedding = nn.Linear(16, 4)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        frames = features.transpose(1, 2)
        attended, _ = self.attention(frames, frames, frames, need_weights=False)
        embedding: torch.Tensor = self.embedding(attended.mean(dim=1))
        return embedding


def test_a_graph_of_a_single_length_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, cache = SpeakerModel(SelfAttention().eval(), FrontEnd(), "attention"), Cache(tmp_path)
    with pytest.raises(
        UserError, match=r"^.* does not take one recording of 102 frames \(.*Reshape.*\); .*$"
    ):
        exported_network(model, OPSET, cache)
    assert capfd.readouterr() == ("", "")
    assert not [*cache.entries()]
