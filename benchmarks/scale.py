"""VoxCeleb1-O's size: ``python benchmarks/scale.py [--counts 500 1500 4715] [--trials 37720] [--mask all]``.

Generates, once, a corpus of VoxCeleb's shape (40 speakers, 4,715 recordings of about 8 s of synthetic speech,
37,720 trials) below the cache, and runs ``speakerquant experiment=voxceleb`` on some of its recordings in a
process of its own, with an empty cache: recordings per second of features and embeddings, seconds of scoring,
and peak memory.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import soundfile
from rich.console import Console
from rich.table import Table

from speakerquant.cache import Cache
from speakerquant.corpus.recordings import find_recordings
from speakerquant.corpus.synthetic import CALIBRATION, Split, synthesize_split
from speakerquant.corpus.trials import write_trials
from speakerquant.engine.cpu import describe_cpu
from speakerquant.measuring.result import RESULT_FILE
from speakerquant.progress import track

NUM_SPEAKERS, NUM_RECORDINGS, NUM_TRIALS = 40, 4715, 37720
UTTERANCES_PER_RECORDING = 3  # of about 2.7 s


@dataclass(frozen=True)
class Measured:
    """One run: seconds by stage, and most memory in MB."""

    seconds: dict[str, float]
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[500, 1500, NUM_RECORDINGS], help="recordings"
    )
    parser.add_argument(
        "--trials", type=int, default=NUM_TRIALS, help="for all recordings; in proportion for fewer"
    )
    parser.add_argument("--mask", default="all", help="mask to measure, beside the baseline")
    arguments = parser.parse_args()
    console = Console()
    cache = Cache()
    corpus = cache.get("benchmarks", "voxceleb1-o-shaped", _generate)
    calibration = synthesize_split(CALIBRATION, 0, cache)
    table = Table(title=f"{describe_cpu()}, mask {arguments.mask}")
    headings = ("recordings", "trials", "features per s", "embeddings per s", "scoring, s", "all stages, s")
    for heading in (*headings, "peak memory, MB"):
        table.add_column(heading, justify="right")
    for count in arguments.counts:
        num_trials = arguments.trials * count // NUM_RECORDINGS
        measured = _run(corpus, calibration, count, num_trials, arguments.mask)
        seconds = measured.seconds
        table.add_row(
            f"{count:,}",
            f"{num_trials:,}",
            f"{count / seconds['features']:.1f}",
            f"{count / seconds['embedding']:.1f}",
            f"{seconds['scoring']:.1f}",
            f"{sum(seconds.values()):.1f}",
            f"{measured.peak_mb:.0f}",
        )
    console.print(table)


def _generate(folder: Path) -> None:
    names: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for index in track(range(NUM_SPEAKERS), "speakers", total=NUM_SPEAKERS):
            count = len(range(index, NUM_RECORDINGS, NUM_SPEAKERS))
            split = Split(f"scale{index}", 1, count, UTTERANCES_PER_RECORDING)
            spoken = synthesize_split(split, 0, Cache(Path(scratch)))
            for session in sorted(path for path in spoken.glob("*/*") if path.is_dir()):
                parts = [soundfile.read(path, dtype="float32")[0] for path in sorted(session.glob("*.wav"))]
                name = f"id{10270 + index}/{session.name}/00001.wav"
                path = folder / "wav" / name
                path.parent.mkdir(parents=True)
                soundfile.write(path, np.concatenate(parts), 16000, subtype="PCM_16")
                names.append(name)
    (folder / "recordings.json").write_text(json.dumps(names))


def _trials(names: Sequence[str], count: int) -> list[tuple[bool, str, str]]:
    """Half of them of one speaker, none twice."""
    rng = random.Random(0)
    by_speaker: dict[str, list[str]] = {}
    for name in names:
        by_speaker.setdefault(name.split("/")[0], []).append(name)
    chosen: dict[tuple[str, str], bool] = {}
    while len(chosen) < count:
        same = len(chosen) % 2 == 0
        first = rng.choice(names)
        second = rng.choice(by_speaker[first.split("/")[0]] if same else names)
        if first != second and (first.split("/")[0] == second.split("/")[0]) == same:
            chosen.setdefault((first, second), same)
    return [(same, first, second) for (first, second), same in chosen.items()]


def _run(corpus: Path, calibration: Path, count: int, num_trials: int, mask: str) -> Measured:
    names = find_recordings(corpus / "wav")
    random.Random(0).shuffle(names)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        trials = _trials(names[:count], num_trials)
        paired = {name for _, *pair in trials for name in pair}
        write_trials(folder / "trials.txt", [*trials, *_leftover(names[:count], paired)])
        command = [
            *(
                sys.executable,
                "-m",
                "speakerquant.commands.evaluate_mask",
                "experiment=voxceleb",
                "hydra.mode=RUN",
                f"mask={mask}",
            ),
            *(f"data.root={corpus / 'wav'}", f"data.trials={folder / 'trials.txt'}"),
            *(f"data.calibration_root={calibration}", f"cache.root={folder / 'cache'}"),
            *(f"tracking.uri=sqlite:///{folder}/mlflow.db", f"hydra.run.dir={folder / 'run'}"),
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            peak = _peak_memory(process)
        result = json.loads((folder / "run" / RESULT_FILE).read_text())
        assert result["num_recordings"] == count
        return Measured(result["seconds"], peak)


def _leftover(names: Sequence[str], paired: set[str]) -> list[tuple[bool, str, str]]:
    """Trials for recordings that chance has left out."""
    return [
        (False, name, next(x for x in names if x[:7] != name[:7])) for name in names if name not in paired
    ]


def _peak_memory(process: "subprocess.Popen[bytes]") -> float:
    """Most resident memory of a process until it ends, in MB."""
    peak = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    return peak / 1e6


if __name__ == "__main__":
    main()
