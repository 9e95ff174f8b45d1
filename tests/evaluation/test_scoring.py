import tracemalloc

import numpy as np
import pytest

from speakerquant.errors import UserError
from speakerquant.evaluation.scoring import cosine_scores


@pytest.fixture
def embeddings() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((50, 192)).astype(np.float32)


@pytest.mark.parametrize("num_trials", [0, 1, 255, 256, 257, 1000])
def test_is_the_cosine_of_each_pair(embeddings: np.ndarray, num_trials: int) -> None:
    left, right = np.random.default_rng(1).integers(0, len(embeddings), (2, num_trials))
    norms = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    expected = [
        np.dot(embeddings[i].astype(np.float64), embeddings[j]) / (norms[i] * norms[j])
        for i, j in zip(left, right, strict=True)
    ]
    np.testing.assert_allclose(cosine_scores(embeddings, left, right), expected, atol=1e-12)


def test_ignores_length_and_knows_same_and_opposite(embeddings: np.ndarray) -> None:
    stretched = np.stack([embeddings[0], 1e-3 * embeddings[0], -1e3 * embeddings[0]])
    np.testing.assert_allclose(cosine_scores(stretched, [0, 0, 1], [0, 1, 2]), [1, 1, -1], atol=1e-6)


def test_memory_beyond_the_result_is_bounded(embeddings: np.ndarray) -> None:
    num_trials = 200_000
    left, right = np.random.default_rng(1).integers(0, len(embeddings), (2, num_trials))
    tracemalloc.start()
    try:
        scores = cosine_scores(embeddings, left, right)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - scores.nbytes < 4e6  # all pairs at once would take 300 MB a side


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, "recording 7 is zero"),
        (np.nan, "recording 7 is not finite"),
        (np.inf, "recording 7 is not finite"),
    ],
    ids=["zero", "NaN", "infinite"],
)
def test_refuses_an_embedding_without_direction(embeddings: np.ndarray, value: float, message: str) -> None:
    embeddings[7] = value
    with pytest.raises(UserError, match=message):
        cosine_scores(embeddings, [0], [1])
