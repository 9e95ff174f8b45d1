"""``speakerquant-ui`` leads to the runs, in a real browser."""

import re
import subprocess
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from browser import BROWSER, browse
from conftest import console_script
from web_server import serve

from speakerquant.commands.ui_serving import _wait

from .conftest import Workspace, free_port

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


@pytest.fixture
def addresses(workspace: Workspace, finished_multirun: str, tmp_path: Path) -> Iterator[list[str]]:
    """What the command prints, with a finished multirun in its store: the runs, and its masks."""
    command = [console_script("speakerquant-ui"), f"tracking.uri={workspace.tracking_uri}", finished_multirun]
    with subprocess.Popen(
        [*command, f"port={free_port()}"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as ui:
        assert ui.stdout is not None
        try:
            yield [ui.stdout.readline().split()[-1] for _ in range(2)]
        finally:
            ui.terminate()


def test_the_ui_is_waited_for_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with serve(SimpleHTTPRequestHandler) as answering, subprocess.Popen(["sleep", "3"]) as server:
        _wait(f"http://127.0.0.1:{answering.server_port}", server)
        assert server.poll() is None, "it answered, and did not end"
        server.terminate()


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_the_printed_addresses_show_the_multirun_and_its_masks(addresses: list[str]) -> None:
    shown, _ = browse(addresses[0])
    assert "multirun · folder test" in shown
    assert re.search(r"3(<[^>]*>|\s)*matching runs", shown), "the multirun and its two masks"
    masks, _ = browse(addresses[1], width=2400)
    assert re.search(r"2(<[^>]*>|\s)*matching runs", masks)
    columns = [
        *(f"metrics.`{name}`" for name in ("engine_size_bytes", "delta_eer", "latency_ms_p50")),
        *(f"params.`mask.{unit}`" for unit in ("input_conv", "se_res2block1", "embedding_linear")),
    ]
    places = [re.search(f'aria-colindex="([0-9]+)"[^>]*col-id="{name}"', masks) for name in columns]
    order = [int(place[1]) for place in places if place]
    assert len(order) == len(columns)
    assert order == sorted(order), "sizes first, units in network order"
