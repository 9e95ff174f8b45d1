import tracemalloc

import numpy as np
import pytest

from speakerquant.errors import UserError
from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.scores import cohort_statistics, cosine_scores, normalised_scores


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
    names = [f"{index}.wav" for index in range(len(embeddings))]
    with pytest.raises(UserError, match=r"recording 7\.wav is"):
        cosine_scores(embeddings, [0], [1], names)


@pytest.mark.parametrize("top_n", [None, 20, 2])
def test_normalisation_is_its_definition(embeddings: np.ndarray, top_n: int | None) -> None:
    cohort = np.random.default_rng(2).standard_normal((60, 192)).astype(np.float32)
    left, right = np.random.default_rng(1).integers(0, len(embeddings), (2, 300))
    scores = cosine_scores(embeddings, left, right)
    normalised = normalised_scores(scores, left, right, cohort_statistics(embeddings, cohort, top_n))
    together = np.concatenate([embeddings, cohort])
    for trial in range(0, 300, 7):
        sides = []
        for index in (left[trial], right[trial]):
            against = cosine_scores(together, [index] * 60, np.arange(60) + len(embeddings))
            highest = np.sort(against)[-(top_n or 60) :]
            sides.append((scores[trial] - highest.mean()) / highest.std())
        assert normalised[trial] == pytest.approx(np.mean(sides), abs=1e-9)


@pytest.mark.parametrize("top_n", [None, 50])
def test_normalisation_helps_where_recordings_come_through_two_channels(top_n: int | None) -> None:
    rng = np.random.default_rng(0)
    speakers, channel = rng.standard_normal((40, 64)), rng.standard_normal(64)
    embeddings = np.concatenate([speakers, speakers + channel]) + rng.standard_normal((80, 64))
    cohort = rng.standard_normal((200, 64)) + np.where(rng.random((200, 1)) < 0.5, channel, 0)
    left, right = np.triu_indices(80, 1)
    labels = left == right % 40
    plain = cosine_scores(embeddings, left, right)
    normalised = normalised_scores(plain, left, right, cohort_statistics(embeddings, cohort, top_n))
    assert eer(normalised, labels) < eer(plain, labels) - 2


@pytest.mark.parametrize("top_n", [0, 1, 61])
def test_a_cohort_smaller_than_top_n_is_refused(embeddings: np.ndarray, top_n: int) -> None:
    cohort = np.random.default_rng(2).standard_normal((60, 192))
    with pytest.raises(UserError, match=rf"scoring\.top_n={top_n}.*60 recordings"):
        cohort_statistics(embeddings, cohort, top_n)


def test_a_cohort_of_a_single_recording_is_refused(embeddings: np.ndarray) -> None:
    with pytest.raises(UserError, match="single recording"):
        cohort_statistics(embeddings, np.ones((1, 192)))


def test_an_unusable_embedding_of_the_cohort_is_said_to_be_one(embeddings: np.ndarray) -> None:
    cohort = np.ones((5, 192))
    cohort[3] = np.nan
    with pytest.raises(UserError, match="cohort recording 3 is not finite"):
        cohort_statistics(embeddings, cohort)


def test_a_cohort_of_one_recording_again_and_again_is_refused(embeddings: np.ndarray) -> None:
    with pytest.raises(UserError, match="score alike"):
        cohort_statistics(embeddings, np.ones((10, 192)))


def test_so_is_one_whose_highest_scores_are_of_copies(embeddings: np.ndarray) -> None:
    """Their cosines differ by rounding."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        copied = np.tile(generator.standard_normal(192), (9, 1))
        with pytest.raises(UserError, match="score alike"):
            cohort_statistics(copied[:1], np.concatenate([generator.standard_normal((5, 192)), copied]), 7)
