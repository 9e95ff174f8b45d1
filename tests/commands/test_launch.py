"""What every console script does before its module is imported."""

import sys
from importlib.metadata import entry_points, version

import pytest

SCRIPTS = sorted(
    script.name for script in entry_points(group="console_scripts") if script.name.startswith("speakerquant")
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_its_version(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script, "--version"])
    [entry_point] = entry_points(group="console_scripts", name=script)
    entry_point.load()()
    assert capsys.readouterr().out == f"speakerquant {version('speakerquant')}\n"
