"""The examples in docstrings print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text()
)


def test_what_users_import_has_examples() -> None:
    of = {"quantization.mask", "quantization.precision", "statistics.error_rates", "statistics.uncertainty"}
    assert {f"speakerquant.{name}" for name in of} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
