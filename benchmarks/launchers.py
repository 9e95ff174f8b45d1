"""What a launcher adds to a mask: ``python benchmarks/launchers.py [--repeats N] [settings]``.

Masks whose embeddings are in the cache, so that an evaluation is little more than its overhead, as multiruns
of each launcher, with one mask a job and with all in one; interleaved, medians. Jobs run beside each other as
far as the launcher's nodes allow. SLURM and Ray are those that the environment names, started by
``deploy/slurm/one_machine.sh`` and ``deploy/ray/one_machine.sh``; one that is not there is left out. Further
arguments are settings of ``speakerquant``.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.table import Table

from speakerquant.console import table_console
from speakerquant.engine.cpu import describe_cpu
from speakerquant.progress import track

MASKS = ("none", "all", "paper", "input_conv")
SETTINGS = ("engine=openvino", "data.num_speakers=8", "engine.latency_requests=0")
BASIC = "basic"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="settings of speakerquant")
    arguments = parser.parse_args()
    ways = [(BASIC, 1), *((name, size) for name in _launchers() for size in (1, len(MASKS)))]
    seconds: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        _multirun(Path(folder), BASIC, 1, arguments.overrides)  # fills the cache
        rounds = [way for _ in range(arguments.repeats) for way in ways]
        for way in track(rounds, "multiruns", total=len(rounds)):
            start = time.perf_counter()
            _multirun(Path(folder), *way, arguments.overrides)
            seconds[way].append(time.perf_counter() - start)
    table_console().print(_table(seconds))


def _launchers() -> list[str]:
    slurm = ["submitit_slurm"] if shutil.which("sbatch") and "SLURM_CONF" in os.environ else []
    return ["submitit_local", *slurm, *(["ray"] if "RAY_ADDRESS" in os.environ else [])]


def _multirun(folder: Path, launcher: str, masks_per_job: int, overrides: Sequence[str]) -> None:
    own = {"submitit_slurm": ["cpus_per_task=1", "mem_gb=4"], "ray": ["num_cpus=1"]}
    settings = [f"masks_per_job={masks_per_job}", *own.get(launcher, [])] if launcher != BASIC else []
    subprocess.run(
        [
            str(Path(sys.executable).with_name("speakerquant")),
            *("-m", f"mask={','.join(MASKS)}", f"hydra/launcher={launcher}"),
            *(f"hydra.launcher.{each}" for each in settings),
            *(*SETTINGS, *overrides, f"cache.root={folder / 'cache'}"),
        ],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _table(seconds: dict[tuple[str, int], list[float]]) -> Table:
    table = Table(title=f"{describe_cpu()}; {len(MASKS)} masks", title_justify="left")
    table.add_column("launcher")
    for heading in ("masks a job", "seconds", "against basic", "more for each mask"):
        table.add_column(heading, justify="right")
    basic = median(seconds[BASIC, 1])
    for (launcher, size), times in seconds.items():
        each = median(times)
        more = f"{(each - basic) / len(MASKS):.1f} s"
        table.add_row(launcher, str(size), f"{each:.1f}", f"{each / basic:.2f}", more)
    return table


if __name__ == "__main__":
    main()
