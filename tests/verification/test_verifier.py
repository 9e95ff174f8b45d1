"""Thresholds from trials whose truth is known, and scores of speakers with several recordings."""

import numpy as np
import pytest

from speakerquant.errors import UserError
from speakerquant.statistics.error_rates import eer
from speakerquant.verification.verifier import score, threshold_of

LABELS = np.arange(2000) % 5 == 0
SCORES = np.random.default_rng(0).standard_normal(2000) + 2 * LABELS


def test_several_enrolled_recordings_let_no_more_of_other_speakers_in() -> None:
    rng = np.random.default_rng(0)
    speakers, sessions = rng.standard_normal((40, 1, 64)), rng.standard_normal((40, 4, 64))
    embeddings = 0.5 + speakers + 1.3 * sessions
    embeddings /= np.linalg.norm(embeddings, axis=2, keepdims=True)
    same = np.eye(len(embeddings), dtype=bool)
    one, three = (
        np.array([[score(own[:count], other[3]) for other in embeddings] for own in embeddings])
        for count in (1, 3)
    )
    assert eer(three.ravel(), same.ravel()) < eer(one.ravel(), same.ravel())
    for percent in (10.0, 1.0):
        threshold = threshold_of(one.ravel(), same.ravel(), percent)
        assert 100 * (three[~same] >= threshold).mean() <= percent


def test_by_default_as_many_are_wrongly_accepted_as_rejected() -> None:
    threshold = threshold_of(SCORES, LABELS)
    assert 100 * (SCORES[LABELS] < threshold).mean() == pytest.approx(eer(SCORES, LABELS), abs=0.3)
    assert 100 * (SCORES[~LABELS] >= threshold).mean() == pytest.approx(eer(SCORES, LABELS), abs=0.3)


@pytest.mark.parametrize("percent", [10.0, 1.0, 0.01])
def test_no_more_are_wrongly_accepted_than_wanted_and_no_fewer_than_need_be(percent: float) -> None:
    threshold = threshold_of(SCORES, LABELS, percent)
    assert 100 * (SCORES[~LABELS] >= threshold).mean() <= percent
    lower = SCORES[threshold > SCORES].max()
    assert 100 * (SCORES[~LABELS] >= lower).mean() > percent or lower in SCORES[LABELS]


@pytest.mark.parametrize("percent", [0.0, 100.0, -1.0])
def test_other_shares_are_refused(percent: float) -> None:
    with pytest.raises(UserError, match="false accepts of"):
        threshold_of(SCORES, LABELS, percent)
