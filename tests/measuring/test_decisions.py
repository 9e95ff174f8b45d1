"""What a product that runs the baseline has set, and what it says of lists that this does not fit."""

import numpy as np
import pytest

from speakerquant.errors import UserError
from speakerquant.measuring.swapping import Decisions
from speakerquant.statistics.swap_metrics import swap_numbers
from speakerquant.statistics.uncertainty import SpeakerBootstrap

LEFT = np.repeat(np.arange(10), 40)
LABELS = np.tile([True, False], 200)
BOOTSTRAP = SpeakerBootstrap(LEFT, np.where(LABELS, LEFT, (LEFT + 1) % 10), LABELS, num_replicates=20)
SCORES = np.random.default_rng(0).normal(size=len(LABELS)) + 3 * LABELS


def test_rates_that_the_list_cannot_show_have_no_threshold_and_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    decisions = Decisions.of("development", SCORES, LABELS, [5, 1, 0.1])
    assert [point.name for point in decisions.points] == ["eer", "far_5"]
    [record] = caplog.records
    assert "no threshold is taken at 1, 0.1 %, which the 200 non-target trials" in record.getMessage()


@pytest.mark.parametrize(("moved", "rate"), [(-20, "frr"), (20, "far")], ids=["above all", "below all"])
def test_thresholds_outside_all_scores_are_named(
    moved: float, rate: str, caplog: pytest.LogCaptureFixture
) -> None:
    decisions = Decisions.of("development", SCORES, LABELS, [5])
    former = decisions.on("test", SCORES + moved, BOOTSTRAP, p_target=0.01)
    [record] = caplog.records
    assert record.getMessage().startswith("FP32's thresholds from the development list (eer ")
    assert "far_5" in record.getMessage() and "outside all scores of the test list" in record.getMessage()
    numbers = swap_numbers(SCORES + moved, former, voiceprints_kept=False)
    assert numbers[f"{rate}_at_eer"] == 100.0
    assert numbers["flips_at_eer"] == numbers[f"delta_{rate}_at_far_5"] == 0.0


def test_a_network_that_tells_no_recordings_apart_is_said_so() -> None:
    with pytest.raises(
        UserError, match=r"FP32 scores all trials of the test list alike.*check model\.checkpoint"
    ):
        Decisions.of("test", np.ones(len(LABELS)), LABELS, [5])


@pytest.mark.parametrize("kind", [True, False], ids=["target", "non-target"])
def test_a_kind_of_trials_that_all_score_alike_is_refused(kind: bool) -> None:
    scores = np.where(kind == LABELS, 0.5, SCORES)
    decisions = Decisions.of("test", scores, LABELS, [5])
    with pytest.raises(UserError, match=rf"all {'target' if kind else 'non-target'} trials of the test list"):
        decisions.on("test", scores, BOOTSTRAP, p_target=0.01)


def test_a_list_without_an_error_is_said_to_show_little(caplog: pytest.LogCaptureFixture) -> None:
    apart = SCORES + 20 * LABELS
    Decisions.of("development", apart, LABELS, [5]).on("test", apart, BOOTSTRAP, p_target=0.01)
    [record] = caplog.records
    said = "FP32 makes no error on the test list, which says little of other lists: of 200 target trials"
    assert record.getMessage().startswith(said)
    assert "up to 1.5 % may be missed" in record.getMessage()


def test_thresholds_within_the_scores_are_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    Decisions.of("development", SCORES, LABELS, [5]).on("test", SCORES + 1, BOOTSTRAP, p_target=0.01)
    assert not caplog.records
