"""``speakerquant-ui`` leads to the runs, in a real browser."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import console_script

from .conftest import BROWSER, Command, Workspace, browse, free_port

pytestmark = pytest.mark.slow


@pytest.fixture
def address(workspace: Workspace, speakerquant: Command, tmp_path: Path) -> Iterator[str]:
    """What the command prints, with a finished multirun in its store."""
    experiment = "tracking.experiment=shown"
    assert speakerquant("-m", *workspace.arguments(), experiment, "mask=none,input_conv").code == 0
    command = [console_script("speakerquant-ui"), f"tracking.uri={workspace.tracking_uri}", experiment]
    with subprocess.Popen(
        [*command, f"port={free_port()}"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as ui:
        assert ui.stdout is not None
        try:
            yield ui.stdout.readline().strip()
        finally:
            ui.terminate()


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_the_printed_address_shows_the_multirun(address: str) -> None:
    shown, _ = browse(address)
    assert "multirun · folder test" in shown
    assert re.search(r"3(<[^>]*>|\s)*matching runs", shown), "the multirun and its two masks"
