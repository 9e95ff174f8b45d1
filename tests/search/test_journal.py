"""A journal whose end was damaged: the cut line is dropped, whatever is before it is kept."""

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution

from speakerquant.errors import UserError
from speakerquant.search.goals import Goals
from speakerquant.search.ledger import Ledger
from speakerquant.search.space import Space
from speakerquant.search.storage import open_storage

SPACE = Space({"a": CategoricalDistribution(tuple(range(9)))})


def study(path: Path) -> Ledger:
    return Ledger(open_storage(str(path)), "study", SPACE, Goals({"cost": "minimize"}), {})


def evaluate(ledger: Ledger, value: int) -> None:
    claim = ledger.claim({"a": value}, "test", limit=9)
    assert claim is not None
    ledger.complete(claim, {"cost": 1.0})


def costs(ledger: Ledger) -> list[int]:
    return [trial.params["a"] for trial in ledger.history().completed]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A study with two completed trials."""
    path = tmp_path / "study.journal"
    ledger = study(path)
    evaluate(ledger, 1)
    evaluate(ledger, 2)
    return path


def test_a_journal_that_was_cut_anywhere_in_its_last_lines_is_opened_again_and_again(journal: Path) -> None:
    whole = journal.read_bytes()
    kept = len(b"".join(whole.splitlines(keepends=True)[:-2]))
    for length in range(len(whole) - 1, kept, -13):
        journal.write_bytes(whole[:length])
        ledger = study(journal)
        assert costs(ledger) == [1], "the line that completed the second trial was cut"
        evaluate(ledger, 3)
        assert costs(study(journal)) == [1, 3]
        assert journal.read_bytes().startswith(whole[:kept])


@pytest.mark.parametrize(
    "rest", [b'{"op_code":6,"worker', b'{"op_code":6,"worker\n', b"\n", b"\n\n", b"{}{\n\n", bytes(600)]
)
def test_what_was_cut_while_the_study_is_open_is_dropped_and_kept_aside(
    journal: Path, rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = study(journal)
    with journal.open("ab") as file:
        file.write(rest)  # another process was killed
    evaluate(ledger, 3)
    assert costs(ledger) == costs(study(journal)) == [1, 2, 3]
    aside = journal.with_name("study.journal.cut")
    assert aside.read_bytes().rstrip(b"\n") == rest.rstrip(b"\n")
    assert [str(aside) in each.getMessage() for each in caplog.records] == [True], "said in one line"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"op_code":0,"worker_id":"a"', "line 1 is broken"),
        (b"a picture, perhaps", "line 1 is broken"),
        (b"\n\n", "line 1 is broken"),
        (b'{"op_code":0}\n{"op_code":\n{"op_code":\n', "line 2 is broken"),
        (b'{"op_code":0}\n{"op_code":\n{"op_code":', "line 2 is broken"),
    ],
)
def test_what_is_more_than_a_cut_line_is_left_as_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    journal = tmp_path / "study.journal"
    journal.write_bytes(content)
    with pytest.raises(UserError, match=said):
        study(journal)
    assert journal.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["study.journal"]


def test_a_journal_that_is_gone_is_not_begun_anew_amid_a_search(journal: Path) -> None:
    ledger = study(journal)
    journal.unlink()
    with pytest.raises(UserError, match="is gone"):
        evaluate(ledger, 3)
    assert not journal.exists()


def test_a_long_record_is_found_to_be_whole(journal: Path) -> None:
    ledger = study(journal)
    claim = ledger.claim({"a": 3}, "test", limit=9)
    assert claim is not None
    ledger.complete(claim, {"cost": 1.0, "scores": "x" * 3_000_000})
    assert costs(study(journal)) == [1, 2, 3]
