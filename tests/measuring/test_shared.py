"""What rounding is given of the recordings."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import Subject

from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.audio.features import extract_features
from speakerquant.audio.front_end import FrontEnd
from speakerquant.cache import Cache
from speakerquant.measuring.settings import EvaluationSettings
from speakerquant.measuring.shared import pieces_of, rounding_of


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
