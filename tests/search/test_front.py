"""The front, what is recommended of it, and the files that show it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import IntDistribution
from optuna.samplers import RandomSampler

from speakerquant.report.search_report import SearchReport
from speakerquant.search.front import Front, front_of
from speakerquant.search.goals import Goals
from speakerquant.search.history import History
from speakerquant.search.ledger import Claim, Ledger
from speakerquant.search.search_loop import Budget, Failed, Outcome, Search, Succeeded
from speakerquant.search.space import Space
from speakerquant.search.storage import open_storage
from speakerquant.search.view import PlainView

# Result by point: b is dominated by a, d has no rival in speed.
RESULTS: Sequence[Mapping[str, object]] = (
    {"loss": 1.0, "size": 5.0, "more": {"speed": 1.0}},
    {"loss": 1.0, "size": 6.0, "more": {"speed": 2.0}},
    {"loss": 2.0, "size": 4.0, "more": {"speed": 3.0}},
    {"loss": 9.0, "size": 9.0, "more": {"speed": 9.0}},
)


def history_of(goals: Goals) -> History:
    space = Space({"index": IntDistribution(0, len(RESULTS))})

    def evaluate(claims: Sequence[Claim]) -> list[Outcome]:
        index = int(claims[0].point["index"] or 0)
        return [Succeeded(RESULTS[index]) if index < len(RESULTS) else Failed("no such thing")]

    ledger = Ledger(open_storage(None), "front", space, goals, {})
    budget = Budget(len(RESULTS) + 1)
    return Search(ledger, budget, evaluate, make_sampler=lambda seed: RandomSampler(seed=seed)).run()


def indices(front: Front) -> list[object]:
    return [entry.point["index"] for entry in front.best]


@pytest.mark.parametrize(
    ("objectives", "constraints", "best", "recommended"),
    [
        ({"loss": "minimize", "size": "minimize"}, {"loss": 1.5}, [2, 0], 0),
        ({"loss": "minimize", "size": "minimize"}, {"loss": 2.0}, [2, 0], 2),
        ({"loss": "minimize", "size": "minimize"}, {"loss": 0.5}, [2, 0], None),
        ({"loss": "minimize", "size": "minimize"}, {}, [0, 2], 0),
        ({"size": "minimize", "loss": "minimize"}, {}, [2, 0], 2),
        ({"loss": "minimize", "more.speed": "maximize"}, {"loss": 5.0}, [3, 2, 1], 2),
        ({"loss": "minimize", "size": "minimize"}, {"loss": 5.0, "more.speed": 2.0}, [2, 0], 0),
        ({"more.speed": "maximize"}, {}, [3], 3),
        ({"size": "minimize"}, {"loss": 1.0}, [2], 0),
    ],
)
def test_the_front_and_the_recommended_point(
    objectives: dict[str, str], constraints: dict[str, float], best: list[int], recommended: int | None
) -> None:
    goals = Goals(objectives, constraints)
    front = front_of(history_of(goals), goals)
    assert indices(front) == best
    assert (front.recommended and front.recommended.point["index"]) == recommended


@pytest.mark.parametrize("objectives", [["loss", "size"], ["loss"]])
def test_the_report_of_any_application(
    objectives: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goals = Goals(dict.fromkeys(objectives, "minimize"), {"loss": 1.5})
    history = history_of(goals)
    report = SearchReport("mine", goals, PlainView(goals), lambda point: f"run {point['index']}", tmp_path, 9)
    files = report.write(history)
    assert [path.name for path in files] == ["front.json", "front.csv", "front.md", "front.png", "front.html"]
    assert all(path.stat().st_size > 0 for path in files)
    document = json.loads((tmp_path / "front.json").read_text())
    assert document["trials"]["finished"] == 5
    assert document["trials"]["failed"] == 1
    assert document["recommended"]["command"] == "run 0"
    report.print(history)
    out = capsys.readouterr().out
    assert "mine: 5 of 9 trials, 1 failed" in out
    assert "recommended: trial" in out
    assert "no such thing" in out


class AllTied(PlainView):
    def is_tie(self, result: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        return True


@pytest.mark.parametrize("objectives", [["loss", "size"], ["loss"]])
def test_the_table_names_ties_that_it_shows_and_counts_the_others(
    objectives: list[str], tmp_path: Path
) -> None:
    goals = Goals(dict.fromkeys(objectives, "minimize"), {})
    SearchReport("mine", goals, AllTied(goals), lambda point: "again", tmp_path, 9).write(history_of(goals))
    front = json.loads((tmp_path / "front.json").read_text())["front"]
    shown = [member["trial"] for member in front]
    text = (tmp_path / "front.md").read_text()
    for member in front:
        assert len(member["tied_with"]) == len(RESULTS) - 1, "the file names all"
        named = ", ".join(str(number) for number in shown if number != member["trial"])
        others = f"{len(RESULTS) - len(shown)} others"
        assert f"| {f'{named} and {others}' if named else others} |" in text
