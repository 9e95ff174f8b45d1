"""What every console script does before its module is imported."""

import errno
import getpass
import logging
import os
import pwd
import resource
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path

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


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError("libgomp.so.1: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_a_lack_of_memory_is_said_in_one_line(error: Exception, invoke: Command) -> None:
    def fails() -> None:
        raise error

    finished = invoke(lambda: run_command(fails))
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)
    assert finished.err.startswith("error: not enough memory (")


def test_a_working_folder_that_is_gone_is_said_in_one_line(
    invoke: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    finished = invoke(launch.show_report)
    told = "error: the folder that the command was started in is gone; change to another\n"
    assert (finished.code, finished.err) == (2, told)


def test_where_no_temporary_folder_can_be_written_the_way_out_is_said(
    invoke: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(tempfile, "tempdir", None)  # where Python remembers it
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))  # as on a full disk
    try:
        finished = invoke(launch.evaluate_mask)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)
    assert "set TMPDIR to a writable folder" in finished.err


def test_a_user_whom_the_system_does_not_know_has_a_home_and_a_name(
    invoke: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    finished = invoke(lambda: run_command(lambda: print(Path.home(), getpass.getuser())))
    assert finished.out == f"{tempfile.gettempdir()} {os.getuid()}\n"


def test_empty_variables_of_mlflow_are_unset_ones(invoke: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(name, "")
    shown = invoke(launch.show_report, "--cfg", "job", "--resolve").out
    assert "uri: sqlite:///mlruns/mlflow.db" in shown
    assert "experiment: speakerquant" in shown
