"""What every console script does before its module is imported."""

import logging
import sys
from collections.abc import Callable
from importlib.metadata import entry_points, version

import pytest
from omegaconf import OmegaConf

from speakerquant.commands import launch
from speakerquant.commands.console_script import RUN_NAMES, config_folder, run_command

from .conftest import Command, exit_code

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


@pytest.mark.parametrize(
    ("main", "name"),
    [(launch.show_report, "report"), (launch.register_model, "register"), (launch.show_ui, "ui")],
)
def test_help_says_what_a_command_does_and_what_each_setting_is(
    main: Callable[[], None], name: str, invoke: Command
) -> None:
    config = OmegaConf.load(f"{config_folder()}/{name}.yaml")
    settings = [key for key in config if key not in ("defaults", "hydra")]
    finished = invoke(main, "--help")
    assert (finished.code, finished.err) == (0, "")
    assert finished.out.startswith(f"speakerquant-{name}: ")
    lines = [line.split() for line in finished.out.splitlines() if line.startswith("  ")]
    described = {line[0] for line in lines if len(line) > 1}
    assert {*settings, "tracking.uri", "tracking.experiment"} <= described


def test_help_of_training_says_what_it_does_and_with_which_settings(invoke: Command) -> None:
    finished = invoke(launch.train_network, "--help")
    assert finished.out.startswith("speakerquant-train: ")
    assert "synthetic_share: 1.0" in finished.out
    assert "base/engine" not in finished.out


def test_a_run_is_named_in_the_same_words_in_every_help(invoke: Command) -> None:
    for main, *subcommand in (
        (launch.register_model,),
        (launch.export_mask,),
        (launch.verify_speaker,),
        (launch.inspect_engine, "info"),
        (launch.inspect_engine, "bench"),
    ):
        assert RUN_NAMES in " ".join(invoke(main, *subcommand, "--help").out.split())


def test_ctrl_c_amid_the_imports_is_no_traceback(monkeypatch: pytest.MonkeyPatch, invoke: Command) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch.importlib, "import_module", interrupted)
    finished = invoke(launch.evaluate_mask)
    assert (finished.code, finished.err) == (130, "interrupted\n")


def test_pytorch_logs_nothing_though_ctrl_c_has_broken_its_import_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted() -> None:
        caplog.set_level(logging.INFO)  # as Hydra sets it
        raise KeyboardInterrupt

    monkeypatch.setattr(logging.getLogger("torch"), "level", logging.NOTSET)
    assert exit_code(lambda: run_command(interrupted)) == 130
    logging.getLogger("torch.caches").info("hits: 0")
    assert not caplog.records
