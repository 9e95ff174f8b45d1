"""Output that nobody reads, and files beside the main result that cannot be written."""

import locale
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import console_script

from speakerquant.commands import show_report
from speakerquant.corpus.synthetic import TRIALS_FILE

from .conftest import QUICK, Command, Workspace, exit_code, results

pytestmark = pytest.mark.slow


def test_output_that_is_closed_from_the_beginning_is_no_mistake(workspace: Workspace) -> None:
    data = ["--root", str(workspace.corpus), "--trials", str(workspace.corpus / TRIALS_FILE)]
    checked = [console_script("speakerquant-data"), "check", *data]
    closed = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *checked], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (closed.returncode, closed.stderr) == (0, "")


def test_errors_do_not_come_amid_results_where_standard_error_is_closed(
    invoke: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stderr", "__stderr__"):
        monkeypatch.setattr(sys, name, None)
    refused = invoke(show_report.main, "no_such_setting=1")
    assert (refused.code, refused.out) == (2, "")


def test_a_multirun_ends_well_although_nobody_reads_its_table(workspace: Workspace, tmp_path: Path) -> None:
    settings = [*workspace.arguments(), *QUICK, "mask=none", "tracking.experiment=unread"]
    command = [console_script(), "-m", *settings]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()  # as head -1
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 0, error
    assert "Error" not in error and "error" not in error
    assert len(results(tmp_path)) == 1
    tracking = workspace.tracking_of("unread")
    assert {run.info.status for run in tracking.client.search_runs([tracking.experiment_id])} == {"FINISHED"}


def test_a_terminal_without_greek_letters_gets_the_table_and_files_have_them(
    workspace: Workspace, finished_multirun: str, tmp_path: Path
) -> None:
    printed, picture = tmp_path / "printed", tmp_path / "report.png"
    settings = (f"tracking.uri={workspace.tracking_uri}", finished_multirun, f"output={picture}")
    locale.setlocale(locale.LC_CTYPE, "C")
    with printed.open("w", encoding="ascii") as terminal, pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for name in ("stdout", "__stdout__"):
            patch.setattr(sys, name, terminal)
        try:
            code = exit_code(show_report.main, *settings)
        finally:
            locale.setlocale(locale.LC_CTYPE, "")
    assert code == 0
    assert "?EER %" in printed.read_text()
    assert all("ΔEER" in picture.with_suffix(each).read_text(encoding="utf-8") for each in (".md", ".html"))


def test_a_picture_that_cannot_be_drawn_leaves_the_table(
    workspace: Workspace, finished_multirun: str, invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    picture = tmp_path / "file" / "report.png"
    reported = invoke(
        show_report.main, f"tracking.uri={workspace.tracking_uri}", finished_multirun, f"output={picture}"
    )
    assert reported.code == 0
    assert "input_conv" in reported.out
    for warning, suffix in zip(reported.err.splitlines(), (".html", ".md", ".png"), strict=True):
        path = picture.with_suffix(suffix)
        assert warning.startswith(f"warning: {path} is left out: cannot write {path}")
