"""The benchmarks as a user looks at them: what they measure takes minutes and more."""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from processes import Program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.release,
    pytest.mark.skipif(find_spec("speechbrain") is None, reason="the extra peers is not installed"),
]

BENCHMARKS = sorted(
    path for path in (Path(__file__).parents[1] / "benchmarks").glob("*.py") if "__main__" in path.read_text()
)


def show_help(path: Path) -> None:
    sys.path.insert(0, str(path.parent))
    sys.argv = [path.name, "--help"]
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("path", BENCHMARKS, ids=[path.stem for path in BENCHMARKS])
def test_its_help_says_how_it_is_used(path: Path) -> None:
    code, printed = Program(show_help, path).end()
    assert code == 0, printed
    assert printed.startswith(f"usage: {path.name} ")
