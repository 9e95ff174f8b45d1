"""What a trial takes beside its embedding: ``python benchmarks/trial_overhead.py CHECKOUT...``.

Every checkout in turn runs the same multirun by its own code, of masks whose embeddings are made anew while
all that masks share is in its cache. From one result to the next passes the time of a trial; all of it but
embedding and scoring is overhead. The first trial of a multirun, which opens what the others share, is left
out, and so is the first turn, which fills the caches.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.table import Table

from speakerquant.console import table_console
from speakerquant.engine.cpu import describe_cpu
from speakerquant.progress import track

UNITS = ("input_conv", "se_res2block1", "se_res2block2", "se_res2block3", "aggregation_conv")


@dataclass(frozen=True)
class Trial:
    """Seconds of a trial, and of its embedding and scoring."""

    whole: float
    embedding: float
    scoring: float

    @property
    def overhead(self) -> float:
        return self.whole - self.embedding - self.scoring


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="+", type=Path, help="folders with the code to run")
    parser.add_argument("--repeats", type=int, default=3, help="turns, of which the medians count")
    parser.add_argument("--units", nargs="+", default=UNITS, help="units that are INT8, one in each trial")
    parser.add_argument(
        "--settings", nargs="+", default=["data.evaluate_on=development"], help="settings of speakerquant"
    )
    arguments = parser.parse_args()
    checkouts = [path.resolve() for path in arguments.checkouts]
    trials: dict[Path, list[Trial]] = {checkout: [] for checkout in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        turns = [checkout for _ in range(arguments.repeats + 1) for checkout in checkouts]
        for number, checkout in enumerate(track(turns, "multiruns", total=len(turns))):
            measured = _multirun(checkout, Path(folder), number, arguments.units, arguments.settings)
            if number >= len(checkouts):
                trials[checkout] += measured
    print_table(trials, f"{len(arguments.units) - 1} trials, {arguments.repeats} turns, {describe_cpu()}")


def _multirun(
    checkout: Path, folder: Path, number: int, units: Sequence[str], settings: Sequence[str]
) -> list[Trial]:
    cache, sweep = folder / f"cache-{checkout.name}", folder / f"multirun-{number}"
    shutil.rmtree(cache / "embeddings", ignore_errors=True)
    command = [
        *(sys.executable, "-m", "speakerquant.commands.evaluate_mask", "-m", "engine=openvino"),
        *(f"cache.root={cache}", f"tracking.uri=sqlite:///{folder}/{checkout.name}.db"),
        *(f"hydra.sweep.dir={sweep}", "engine.latency_requests=0", f"mask={','.join(units)}", *settings),
    ]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    results = sorted(sweep.rglob("result.json"), key=lambda path: path.stat().st_mtime)
    return [_trial(*pair) for pair in pairwise(results)]


def _trial(before: Path, after: Path) -> Trial:
    seconds = json.loads(after.read_text())["seconds"]
    whole = after.stat().st_mtime - before.stat().st_mtime
    return Trial(whole, seconds["embedding"], seconds["scoring"])


def print_table(trials: dict[Path, list[Trial]], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for heading in ("checkout", "embedding s", "everything else s", "relative to embedding"):
        table.add_column(heading, justify="left" if heading == "checkout" else "right")
    for checkout, measured in trials.items():
        median = statistics.median
        table.add_row(
            _commit(checkout),
            f"{median(each.embedding for each in measured):.2f}",
            f"{median(each.overhead for each in measured):.2f}",
            f"{median(each.overhead / each.embedding for each in measured):.1%}",
        )
    table_console().print(table)


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
