"""What a search over masks shows: a front in the figures' own words, and pictures in their units."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler

from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED
from speakerquant.architectures.published_results import PublishedResults
from speakerquant.cache import Cache
from speakerquant.report.mask_view import MaskView
from speakerquant.report.search_picture import effects_picture, search_picture
from speakerquant.report.search_report import SearchReport
from speakerquant.search.front import front_of
from speakerquant.search.goals import Goals
from speakerquant.search.history import History
from speakerquant.search.ledger import Claim, Ledger
from speakerquant.search.search_loop import Budget, Outcome, Search, Succeeded
from speakerquant.search.space import Space
from speakerquant.search.storage import open_storage
from speakerquant.search.view import Effect, Plane

SPACE = Space({f"mask.{unit}": CategoricalDistribution(("fp32", "int8")) for unit in ("first", "second")})
GOALS = Goals(
    {"engine_size_bytes": "minimize", "delta_eer": "minimize", "seconds.build": "minimize"},
    {"delta_eer": 0.03},
)


def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
    first, second = (claims[0].point[name] == "int8" for name in SPACE.axes)
    size, loss = 60e6 - 10e6 * first - 20e6 * second, 0.02 * first + 0.04 * second
    result = {
        "eer": 1.0 + loss,
        "delta_eer": loss,
        "engine_size_bytes": size,
        "size_ratio": size / 60e6,
        "latency_ms_p50": None,
        "seconds": {"build": 1.25},
        "trial_list": "test",
        "draws": f"{first}{second}",
    }
    return [Succeeded(result)]


@pytest.fixture(scope="module")
def history() -> History:
    ledger = Ledger(open_storage(None), "masks", SPACE, GOALS, {})
    return Search(ledger, Budget(4), evaluate, make_sampler=lambda seed: RandomSampler(seed=seed)).run()


def test_the_front_of_masks_is_shown_in_the_figures_units(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = SearchReport(
        "mine", GOALS, MaskView("test", Cache(tmp_path)), lambda point: "again", tmp_path, 4
    )
    report.print(history, {**history.completed[0].user_attrs["result"], "trial_list": "development"})
    out = capsys.readouterr().out
    assert out.startswith("mine: 4 of 4 trials, on the test list, which the search has seen")
    headings = next(line for line in out.splitlines() if "quantized units" in line)
    for heading in ("EER %", "ΔEER %", "size MB", "size ratio", "latency ms", "build s", "delta_eer ≤ 0.03"):
        assert heading in headings
    row = next(line for line in out.splitlines() if "│" in line and "first" in line)
    assert [cell.strip() for cell in row.split("│")[2:-1]] == [
        *("first", "1.020", "+0.020", "50.000", "0.833", "-", "1.25", "", "yes")
    ]
    assert ", first\n  on the test list, which the search has seen: EER % 1.020, ΔEER % +0.020" in out
    assert "\n  on the development list: EER %" in out


def test_the_front_names_the_masks_that_are_tied_with_its_members(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``second`` loses on half of the draws of speakers, ``first`` on all; those of ``all`` come later."""
    monkeypatch.setattr(SearchReport, "_draw", lambda *_: [])  # pictures show no ties
    rates = np.random.default_rng(0).normal(1, 0.1, 1000)
    (tmp_path / "replicates").mkdir()
    worse = np.random.default_rng(1).normal(0, 0.01, 1000)
    for name, eers in {"FalseFalse": rates, "TrueFalse": rates + 0.5, "FalseTrue": rates + worse}.items():
        np.savez(tmp_path / "replicates" / f"{name}.npz", eer=eers)
    view = MaskView("test", Cache(tmp_path))
    report = SearchReport("mine", GOALS, view, lambda point: "again", tmp_path, 4)

    def tied() -> dict[str, set[str]]:
        report.write(history)
        front = json.loads((tmp_path / "front.json").read_text())["front"]
        draws = {member["trial"]: member["result"]["draws"] for member in front}
        return {draws[member["trial"]]: {draws[other] for other in member["tied_with"]} for member in front}

    found = tied()
    assert found == {
        "FalseFalse": {"FalseTrue"},
        "FalseTrue": {"FalseFalse"},
        "TrueFalse": set(),
        "TrueTrue": set(),
    }
    np.savez(tmp_path / "replicates" / "TrueTrue.npz", eer=rates + 0.5)
    for name in ("FalseFalse", "FalseTrue"):
        (tmp_path / "replicates" / f"{name}.npz").unlink()
    assert tied() == {**found, "TrueFalse": {"TrueTrue"}, "TrueTrue": {"TrueFalse"}}, "each pair is read once"


def test_the_picture_is_in_the_shown_units(history: History, tmp_path: Path) -> None:
    view = MaskView("test", Cache(tmp_path))
    view.plane = Plane("engine_size_bytes", "delta_eer")
    picture = search_picture(front_of(history, GOALS), view, "title")
    assert (picture.x_label, picture.y_label) == ("size MB", "ΔEER %")
    [front] = [series for series in picture.series if series.name == "front"]
    assert [mark.x for mark in front.marks] == pytest.approx([30.0, 40.0, 50.0, 60.0])
    assert front.marks[2].text.endswith(": first<br>size MB 50.000, ΔEER % +0.020")


def test_what_choices_do_alone_is_labelled_as_far_as_it_can_be_read(history: History, tmp_path: Path) -> None:
    front = front_of(history, GOALS)
    sizes = {entry.number: entry.result["engine_size_bytes"] for entry in front.entries}
    worse = [
        replace(entry, result={**entry.result, "delta_eer": 1.0}) if sizes[entry.number] == 50e6 else entry
        for entry in front.entries
    ]
    front = replace(front, entries=worse)
    view = MaskView("test", Cache(tmp_path))

    def labels(part: str) -> list[str]:
        effects = [Effect(part, "int8", entry.number) for entry in front.entries]
        [series] = effects_picture(front, effects, view, "title").series
        assert len(series.marks) == 4
        return [mark.label for mark in series.marks if mark.label]

    assert labels("part") == ["part"] * 4
    assert len(labels("a_part_of_a_long_name" * 20)) == 3, "one of the four is not on the front"


def test_the_html_names_every_mask_and_the_papers_proposal(history: History, tmp_path: Path) -> None:
    def page(published: PublishedResults | None) -> str:
        view = MaskView("test", Cache(tmp_path), published)
        SearchReport("mine", GOALS, view, lambda point: "again", tmp_path, 4).write(history)
        return (tmp_path / "front.html").read_text()

    with_the_papers = page(PUBLISHED)
    for text in (": none", ": all", ": first", ": second", "paper's proposal", "size ratio"):
        assert text in with_the_papers
    assert '"displayModeBar": false' in with_the_papers, "buttons would cover the title"
    assert "paper's proposal" not in page(None), "of this network nothing is published"
