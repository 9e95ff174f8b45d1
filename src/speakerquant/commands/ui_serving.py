"""MLflow's UI, at the runs of the experiment."""

import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from contextlib import suppress

from speakerquant.configuration.tracking_schema import UiConfig
from speakerquant.credentials import without_credentials
from speakerquant.errors import UserError
from speakerquant.tracking.client import Tracking, find_experiment, is_server, runs_address
from speakerquant.tracking.recorded_runs import latest_multirun
from speakerquant.tracking.views import masks_address

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_PATIENCE = 20  # seconds of silence before a line says what is waited for
# A proxy that the user has would not find this host.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
_ONE_PROCESS = ("--workers", "1")  # four, as MLflow has it, take several times as long to start
# MLflow's own jobs judge answers of language models; they would start processes that nobody needs here.
_WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def show(config: UiConfig) -> None:
    """Serve MLflow's UI until Ctrl-C, unless the store is a server itself; print addresses, open a browser.

    Raises:
        UserError: the port is taken, or MLflow's UI ends before it answers.
    """
    uri = config.tracking.uri
    tracking = find_experiment(uri, config.tracking.experiment)
    if is_server(uri):
        _lead_to(without_credentials(uri), tracking)
        return
    _refuse_taken(config.port)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", _HOST, "--port", str(config.port)]
    with subprocess.Popen(
        [*command, *_ONE_PROCESS, "--backend-store-uri", uri],
        env=os.environ | _WITHOUT_JOBS,
        stdout=subprocess.DEVNULL,
    ) as server:
        try:
            base = f"http://{_HOST}:{config.port}"
            _wait(base, server)
            _lead_to(base, tracking)
            server.wait()
        finally:
            server.terminate()


def _refuse_taken(port: int) -> None:
    """Refuse what is no port, and one on which something else would answer."""
    if not 0 < port < 65536:
        raise UserError(f"port={port}: give a port from 1 to 65535, such as port=5000")
    try:
        socket.create_server((_HOST, port)).close()
    except OSError as error:
        raise UserError(
            f"port={port}: MLflow's UI cannot be served there ({error.strerror}); choose another, "
            f"such as port={port - 1}"
        ) from error


def _wait(address: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait until MLflow answers, for as long as it runs: on a loaded machine its start takes minutes."""
    patient_until = time.monotonic() + _PATIENCE
    while server.poll() is None:
        try:
            with _open(address, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
        if time.monotonic() > patient_until:
            log.info("waiting for MLflow's UI, which is starting (Ctrl-C ends it)")
            patient_until = float("inf")
    raise UserError(f"{address}: MLflow's UI ended before it answered; its lines above say why")


def _lead_to(server: str, tracking: Tracking) -> None:
    address = runs_address(server, tracking.experiment_id)
    print(address, flush=True)
    with suppress(UserError):  # no multirun yet
        if masks := masks_address(tracking, server, latest_multirun(tracking)):
            print(f"the latest masks: {masks}", flush=True)
    if sys.stdout.isatty() and (sys.platform == "darwin" or os.environ.get("DISPLAY")):
        webbrowser.open(address)
