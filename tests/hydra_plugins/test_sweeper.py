"""The sweeper in a small Hydra application of its own."""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from speakerquant.report.search_report import SearchReport
from speakerquant.search.history import HEARTBEAT, OWNER
from speakerquant.search.ledger import MAX_RETRIES
from speakerquant.search.owner import Owner
from speakerquant.search.storage import open_storage

pytestmark = pytest.mark.slow

PROGRAM = """
from pathlib import Path

import hydra
from speakerquant.search.application import SearchApplication

class Final(SearchApplication):
    def final_overrides(self, config):
        return ["c=100"]

    def final_fingerprint(self, config):
        return {"data of the final evaluation": str(config.unseen)}

class Edited(SearchApplication):
    def changed_input(self, result, *, is_final):
        return "trial list" if result["cost"] == 2 else None

@hydra.main(config_path=str(Path(__file__).parent), config_name="config", version_base="1.3")
def main(config):
    if config.unseen == "broken" and config.c:
        raise ValueError("broken")
    return {"cost": config.a + config.b + config.c + (config.unseen if config.c else 0)}

"""

CONFIG = """
defaults:
  - override hydra/sweeper: optuna_search
  - _self_
a: 0
b: 0
c: 0
unseen: 0
hydra:
  sweep: {dir: sweep}
  sweeper:
    objectives: {cost: minimize}
    params: {a: "choice(1,2)"}
"""


FINAL_STUDY = (
    "hydra.sweeper.application=program.Final",
    "hydra.sweeper.study_name=s",
    "hydra.sweeper.storage=s.journal",
)

Search = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures, which no test here looks at, take longer than these searches."""
    monkeypatch.setattr(SearchReport, "_draw", lambda *_: [])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "program", raising=False)
    return tmp_path


@pytest.fixture
def search(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Search:
    """The program with the given overrides, in this process; returns exit code and standard error."""

    def run(*overrides: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["program.py", "-m", *overrides])
        try:
            importlib.import_module("program").main()
        except SystemExit as stop:
            return int(stop.code or 0), capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def points(folder: Path) -> list[dict[str, Any]]:
    """What was evaluated, in order of the keys' values."""
    files = folder.glob("sweep/*/trial.json")
    return sorted((json.loads(file.read_text())["point"] for file in files), key=str)


def test_without_an_application_the_space_is_searched_and_nothing_else(folder: Path, search: Search) -> None:
    code, err = search()
    assert code == 0, err
    assert points(folder) == [{"a": 1}, {"a": 2}]
    assert not list(folder.glob("sweep/final-*"))


def test_an_application_is_found_by_its_import_path(folder: Path, search: Search) -> None:
    code, err = search("hydra.sweeper.application=program.Final")
    assert code == 0, err
    [front] = folder.glob("sweep/front.json")
    assert json.loads(front.read_text())["recommended"]["final_result"] == {"cost": 101}


def test_a_final_evaluation_is_of_the_data_that_are_given(folder: Path, search: Search) -> None:
    costs = []
    for unseen in (0, 10, 0):
        code, err = search(*FINAL_STUDY, f"unseen={unseen}")
        assert code == 0, err
        costs.append(json.loads((folder / "sweep" / "front.json").read_text())["recommended"]["final_result"])
    assert costs == [{"cost": 101}, {"cost": 111}, {"cost": 101}]
    assert len(list(folder.glob("sweep/[0-9]*"))) == 2, "the search itself is not repeated"
    assert len(list(folder.glob("sweep/final-*"))) == 2


def test_a_search_ends_where_it_measures_other_data_than_it_began_with(folder: Path, search: Search) -> None:
    """And what was measured on these is no part of the study."""
    code, err = search(
        *("hydra.sweeper.application=program.Edited", "hydra.sweeper.study_name=s"),
        *("hydra.sweeper.storage=s.journal", "hydra.sweeper.warm_start=false"),
    )
    assert code != 0
    assert "trial list changed during the search; the same command begins another study" in err
    storage = open_storage("s.journal")
    trials = storage.get_all_trials(storage.get_study_id_from_name("s"))
    states = {trial.params["a"]: trial.state for trial in trials}
    assert states.pop(2) is TrialState.FAIL and {*states.values()} <= {TrialState.COMPLETE}


def test_a_final_evaluation_that_failed_is_tried_again_however_often(folder: Path, search: Search) -> None:
    for number in range(1, 4):
        code, err = search(*FINAL_STUDY, "unseen=broken")
        assert code != 0
        assert "could not be evaluated on unseen data: broken" in err
        assert len(list(folder.glob("sweep/final-*"))) == number
        storage = open_storage("s.journal")
        [final] = [study for study in storage.get_all_studies() if "-final" in study.study_name]
        [*_, failed] = storage.get_all_trials(final._study_id)
        for _ in range(MAX_RETRIES):
            storage.create_new_trial(final._study_id, failed)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere.Application", "cannot be imported"),
        ("pathlib.Path", "not a SearchApplication"),
        ("program.main", "cannot be imported"),
    ],
)
def test_what_is_no_application_is_refused(folder: Path, search: Search, path: str, said: str) -> None:
    code, err = search(f"hydra.sweeper.application={path}")
    assert code != 0
    [line] = [line for line in err.splitlines() if f"hydra.sweeper.application={path}" in line]
    assert said in line
    assert not (folder / "sweep").exists()


def test_the_axes_of_the_configuration_can_be_removed(folder: Path, search: Search) -> None:
    code, err = search("~hydra.sweeper.params", "b=choice(3,4)")
    assert code == 0, err
    assert points(folder) == [{"b": 3}, {"b": 4}]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("hydra.sweeper.n_trails=4", "hydra.sweeper.n_trails"),
        ("+hydra.sweeper.n_trails=4", "n_trails"),
        ("hydra.sweeper.n_trials=many", "hydra.sweeper.n_trials"),
    ],
)
def test_settings_are_checked(folder: Path, search: Search, override: str, said: str) -> None:
    code, err = search(override)
    assert code != 0
    assert said in err
    assert not (folder / "sweep").exists()


def test_a_file_that_several_machines_would_damage_is_refused(folder: Path, search: Search) -> None:
    settings = ("hydra.sweeper.storage=sqlite:///studies.db", "hydra.sweeper.study_name=shared")
    assert search(*settings)[0] == 0
    stored = open_storage(f"sqlite:///{folder}/studies.db")
    other = Owner("node7 0c8f1a77-another-boot 4026531836", 1, 0.0)
    running = create_trial(
        state=TrialState.RUNNING,
        params={"a": 1},
        distributions={"a": CategoricalDistribution((1, 2))},
        user_attrs={OWNER: other.record(), HEARTBEAT: time.time()},
    )
    stored.create_new_trial(stored.get_study_id_from_name("shared"), running)
    code, err = search(*settings)
    assert code != 0
    assert "node7 works on this study too" in err.splitlines()[-1]
