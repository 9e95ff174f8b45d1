"""MLflow's UI, at the runs of the experiment."""

import os
import subprocess
import sys
import time
import urllib.request
import webbrowser
from contextlib import suppress

from speakerquant.configuration.tracking_schema import UiConfig
from speakerquant.errors import UserError
from speakerquant.tracking.client import Tracking, find_experiment, is_server, runs_address
from speakerquant.tracking.recorded_runs import latest_multirun
from speakerquant.tracking.views import masks_address

_HOST = "127.0.0.1"
_SECONDS = 60  # until MLflow must answer
_ONE_PROCESS = ("--workers", "1")  # four, as MLflow has it, take several times as long to start
# MLflow's own jobs judge answers of language models; they would start processes that nobody needs here.
_WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def show(config: UiConfig) -> None:
    """Serve MLflow's UI until Ctrl-C, unless the store is a server itself; print addresses, open a browser.

    Raises:
        UserError: MLflow's UI does not start.
    """
    uri = config.tracking.uri
    tracking = find_experiment(uri, config.tracking.experiment)
    if is_server(uri):
        _lead_to(uri, tracking)
        return
    port = str(config.port)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", _HOST, "--port", port, *_ONE_PROCESS]
    with subprocess.Popen(
        [*command, "--backend-store-uri", uri], env=os.environ | _WITHOUT_JOBS, stdout=subprocess.DEVNULL
    ) as server:
        try:
            base = f"http://{_HOST}:{port}"
            _wait(base, server)
            _lead_to(base, tracking)
            server.wait()
        finally:
            server.terminate()


def _wait(address: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait until MLflow answers."""
    deadline = time.monotonic() + _SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise UserError(
        f"{address}: MLflow's UI does not start; is the port taken? choose another with port=5001"
    )


def _lead_to(server: str, tracking: Tracking) -> None:
    address = runs_address(server, tracking.experiment_id)
    print(address, flush=True)
    with suppress(UserError):  # no multirun yet
        if masks := masks_address(tracking, server, latest_multirun(tracking)):
            print(f"the latest masks: {masks}", flush=True)
    if sys.stdout.isatty() and (sys.platform == "darwin" or os.environ.get("DISPLAY")):
        webbrowser.open(address)
