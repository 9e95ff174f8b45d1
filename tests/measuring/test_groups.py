"""Error rates of groups of trials."""

from pathlib import Path

import numpy as np
import pytest

from speakerquant.cache import Cache
from speakerquant.corpus.conditions import TrialGroup
from speakerquant.measuring.groups import compare_groups, judged_groups
from speakerquant.measuring.swapping import Decisions
from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.group_metrics import HOLM, holm, worst_group
from speakerquant.statistics.swap_metrics import FormerSystem
from speakerquant.statistics.uncertainty import SpeakerBootstrap


def test_a_loss_of_one_group_is_found_there_and_named(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(40), 6)
    left, right = np.triu_indices(len(speakers), 1)
    labels = speakers[left] == speakers[right]
    kept = labels | (generator.random(len(left)) < 0.1)
    left, right, labels = left[kept], right[kept], labels[kept]
    first, second = speakers[left] < 20, speakers[right] < 20
    groups = [
        TrialGroup("sex f", np.flatnonzero(first & second)),
        TrialGroup("sex m", np.flatnonzero(~first & ~second)),
    ]
    former = generator.normal(size=len(labels)) + 3 * labels
    lost = former - 1.0 * (labels & first & second) + 0.01 * generator.normal(size=len(labels))
    bootstrap = SpeakerBootstrap(speakers[left], speakers[right], labels)
    judged = judged_groups(groups, bootstrap)
    decisions = Decisions.of("test", former, labels, [])
    system = FormerSystem(former, decisions.points, decisions.calibration, 0.01, bootstrap)
    found = compare_groups(lost, system, judged, Cache(tmp_path))
    of_women, of_men = found["sex f"], found["sex m"]
    assert of_women["eer"] == pytest.approx(eer(lost[groups[0].trials], labels[groups[0].trials]))
    assert of_women["delta_eer_low"] > 1 and of_women[HOLM.name] < 0.05
    assert of_women["delta_frr_at_eer_low"] > 5
    assert of_men["delta_eer_low"] <= 0 <= of_men["delta_eer_high"]
    name, worst = worst_group(found)
    assert name == "sex f"
    assert worst["worst_group_delta_eer_high"] == of_women["delta_eer_high"]


def test_the_worst_group_is_the_one_that_may_have_lost_most() -> None:
    groups = {
        "many": {"delta_eer": 2.0, "delta_eer_high": 3.0},
        "few": {"delta_eer": 1.0, "delta_eer_high": 5.0},
    }
    largest = {"worst_group_delta_eer": 2.0, "worst_group_delta_eer_high": 5.0}
    assert worst_group(groups) == ("few", largest)


def test_groups_too_small_for_an_interval_are_left_out_by_name(caplog: pytest.LogCaptureFixture) -> None:
    left = np.repeat(np.arange(10), 20)
    labels = np.tile([True, False], 100)
    bootstrap = SpeakerBootstrap(left, np.where(labels, left, (left + 1) % 10), labels)
    groups = [
        TrialGroup("room hall", np.arange(200)),
        TrialGroup("room booth", np.arange(60)),
        TrialGroup("length to 1 s", np.arange(60), is_given=False),
    ]
    assert [each.group.name for each in judged_groups(groups, bootstrap)] == ["room hall"]
    said = "1 of 2 groups left out, such as room booth: 30 target and 30 non-target trials of 4 speakers"
    assert said in caplog.text
    assert "length" not in caplog.text


def test_a_loss_is_shown_among_any_number_of_groups(tmp_path: Path) -> None:
    left = np.repeat(np.arange(10), 40)
    labels = np.tile([True, False], 200)
    bootstrap = SpeakerBootstrap(left, np.where(labels, left, (left + 1) % 10), labels)
    before = np.random.default_rng(0).normal(size=400) + 4 * labels
    former = Decisions.of("test", before, labels, []).on("test", before, bootstrap, p_target=0.01)
    groups = judged_groups([TrialGroup(f"room {name}", np.arange(400)) for name in range(30)], bootstrap)
    found = compare_groups(before - 3 * labels, former, groups, Cache(tmp_path))
    assert all(numbers[HOLM.name] < 0.05 for numbers in found.values())


def test_holm_corrects_for_the_number_of_groups() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
