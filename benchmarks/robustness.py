"""Bad luck on purpose: ``python benchmarks/robustness.py [--seconds N] [--kills N] [--seed N]``.

Each part has its own table. Fuzzing gives every reader of files and every grammar damaged and made-up input
for the given seconds; anything but a result or one line of :class:`UserError` is a fault. Killing ends
``experiment=per_unit`` and ``speakerquant-train`` by SIGKILL at random moments, then lets them finish, and
compares every metric and weight with an undisturbed one. Scarcity runs one mask where something is short:
disk, file handles, processors, home, a writable cache; it must give the undisturbed metrics or end with one
line. Two masks take turns in one folder, each killed: what lies there must be of one of them. Some of these
need root on Linux. Cutting takes a study's journal at every byte of its end, as a machine that goes down may
leave it: it must be opened, gone on with, and opened again.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from hydra.errors import HydraException
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from rich.table import Table
from safetensors.numpy import load_file

from hydra_plugins.optuna_sweeper._overrides import parse_overrides
from speakerquant.architectures.checkpoints import load_checkpoint, random_model, save_checkpoint
from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.audio.decoding import decode
from speakerquant.audio.front_end import FrontEnd
from speakerquant.cache import Cache
from speakerquant.console import table_console
from speakerquant.corpus.recordings import open_recordings, read_list, speaker_from_mapping
from speakerquant.corpus.synthetic import TRIALS_FILE, Split, synthesize_split
from speakerquant.corpus.trials import read_trials
from speakerquant.engine.cpu import describe_cpu
from speakerquant.engine.provenance import find_engine, provenance_path, read_engine, read_provenance
from speakerquant.errors import UserError
from speakerquant.files import sha256
from speakerquant.measuring.engine_metrics import ENGINE_SIZE
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.search.goals import Goals
from speakerquant.search.ledger import Ledger
from speakerquant.search.space import Space
from speakerquant.search.storage import open_storage
from speakerquant.statistics.error_metrics import EER
from speakerquant.verification.verifier import known_threshold

ENGINE = b"what a backend serialized"
SIZES = range(1, 9)  # MB of the small disks: the last is enough


@dataclass(frozen=True)
class Target:
    """A reader, the files that it reads rightly, and what it does with one."""

    suffix: str
    examples: Sequence[bytes]
    read: Callable[[Path], object]


def damaged(examples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Examples with parts cut, repeated or overwritten, and bytes of no example."""

    def apply(example: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
        content = bytearray(example)
        for place, removed, inserted in edits:
            at = int(place * len(content))
            content[at : at + removed] = inserted
        return bytes(content)

    edit = st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 2, 16, 10_000]), st.binary(max_size=20))
    lines = st.lists(st.text(max_size=30), max_size=5).map(lambda texts: "\n".join(texts).encode())
    return st.one_of(
        st.builds(apply, st.sampled_from(list(examples)), st.lists(edit, max_size=4)),
        st.binary(max_size=300),
        lines,
    )


def targets(folder: Path, checkpoint: Path) -> dict[str, Target]:
    """Everything that reads what a user, or another program, may have written."""
    units = load_checkpoint(checkpoint).network.units()
    table = folder / "table.safetensors"
    layers = ("input_conv", "embedding_linear")
    CalibrationTable(
        "max", dict.fromkeys(layers, 2.0), {layer: np.ones(4, np.float32) for layer in layers}
    ).save(table)

    def mask(path: Path) -> Mask:
        entries = [line.partition("=") for line in path.read_text(errors="replace").splitlines()]
        return Mask(units, {name: value for name, _, value in entries})

    def record(path: Path) -> object:
        engine = path.with_name("engine")
        engine.write_bytes(ENGINE)
        shutil.copy(path, provenance_path(engine))
        return read_engine(engine)

    def overrides(path: Path) -> object:
        try:
            return parse_overrides({}, path.read_text(errors="replace").splitlines())
        except HydraException as error:  # Hydra's own grammar, which the commands print like a UserError
            raise UserError("Hydra does not parse it") from error

    sweeps = [
        b"a=choice(1,2)\nb=range(1,9)\nc=interval(0,1)\n",
        b"a=range(0.5,9,0.25)\nb=tag(log,int(interval(1,9)))\n~c\n+d=shuffle(range(3))\n",
    ]
    csv = b"ID,wav,spk_id\na,a.wav,x\nb,b.wav,y\n"
    provenance = {
        "engine": "openvino",
        "environment": {"OpenVINO": "1"},
        "network": {"mask": "none"},
        "sha256": sha256(ENGINE),
        "size_bytes": len(ENGINE),
    }
    return {
        "trial list": Target(".txt", [b"1 a b\n0 a c\n", b"a b target\na c nontarget\n"], read_trials),
        "wav.scp": Target(".scp", [b"a a.wav\nb b.wav\n"], open_recordings),
        "CSV": Target(".csv", [csv], open_recordings),
        "list of recordings": Target(
            ".txt", [b"a.wav\nb/c.wav\n"], lambda path: read_list(path, open_recordings(path.parent))
        ),
        "utt2spk": Target(".txt", [b"a x\nb y\n"], speaker_from_mapping),
        "calibration table": Target(".safetensors", [table.read_bytes()], CalibrationTable.load),
        "checkpoint": Target(".safetensors", [checkpoint.read_bytes()], load_checkpoint),
        "provenance": Target(".json", [json.dumps(provenance).encode()], record),
        "mask": Target(".txt", [b"*=int8\nse_res2block[23]*=fp32\n"], mask),
        "overrides": Target(".txt", sweeps, overrides),
        "journal": Target(
            ".journal", [b'{"op_code":0,"worker_id":"a"}\n'], lambda path: open_storage(str(path))
        ),
        **{
            name: Target(path.suffix, [path.read_bytes()], decode)
            for name, path in recordings(folder).items()
        },
    }


def recordings(folder: Path) -> dict[str, Path]:
    """One short recording of each kind."""
    samples = 0.1 * np.random.default_rng(0).standard_normal(4000)
    kinds = {"wav": "PCM_16", "flac": None, "ogg": "VORBIS", "mp3": "MPEG_LAYER_III", "aiff": None}
    paths = {f"{suffix} recording": folder / f"recording.{suffix}" for suffix in kinds}
    for path, subtype in zip(paths.values(), kinds.values(), strict=True):
        soundfile.write(path, samples, 16000, subtype=subtype)
    return paths


def fuzz(target: Target, path: Path, seconds: float, number: int) -> tuple[int, list[str]]:
    """Inputs that were tried within the time, and the faults among them."""
    tried, faults = 0, []
    end = time.monotonic() + seconds

    @seed(number)
    @settings(
        max_examples=10**9,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(target.examples))
    def once(content: bytes) -> None:
        nonlocal tried
        if time.monotonic() > end:
            raise TimeoutError
        tried += 1
        path.write_bytes(content)
        try:
            target.read(path)
        except UserError as error:
            if "\n" in str(error):
                faults.append(f"more than one line: {error!r}")
        except Exception as error:
            faults.append(f"{type(error).__name__}: {error} <- {content[:80]!r}")

    with suppress(TimeoutError):
        once()
    return tried, sorted(set(faults))


@dataclass(frozen=True)
class Workplace:
    """A small network on a few synthetic sentences."""

    folder: Path
    checkpoint: Path
    data: Sequence[str]

    def command(self, *arguments: str, cache: Path | None = None, runs: Path | None = None) -> list[str]:
        where = runs or self.folder
        return [
            str(Path(sys.executable).with_name("speakerquant")),
            *self.data,
            f"tracking.uri=sqlite:///{where}/mlflow.db",
            f"cache.root={cache or self.folder / 'cache'}",
            *arguments,
        ]

    def metrics(self, folder: Path) -> list[tuple[str, float, float, int]]:
        """Mask, EER, minDCF and size of every result below a folder."""
        found = [json.loads(path.read_text()) for path in folder.rglob("result.json")]
        keys = (EER.name, "min_dcf", ENGINE_SIZE.name)
        return sorted((json.dumps(result["mask"]), *(result[key] for key in keys)) for result in found)


def workplace(folder: Path) -> Workplace:
    cache = Cache(folder / "cache")
    config = EcapaTdnnConfig(channels=64, aggregation_channels=192, attention_channels=32, se_channels=16)
    checkpoint = folder / "small.safetensors"
    save_checkpoint(checkpoint, random_model(ECAPA_TDNN, config, FrontEnd(), seed=0).network, FrontEnd())
    corpus = synthesize_split(Split("test", 4, 2, 2), 0, cache)
    calibration = synthesize_split(Split("calibration", 4, 1, 1), 0, cache)
    data = [
        *("data=folder", f"data.root={corpus}", f"data.trials={corpus / TRIALS_FILE}"),
        *(f"data.calibration_root={calibration}", "calibration.num_recordings=4"),
        f"model.checkpoint={checkpoint}",
    ]
    return Workplace(folder, checkpoint, data)


def run(command: Sequence[str], **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, **options)


def killed(command: Sequence[str], folder: Path, length: float, generator: random.Random) -> bool:
    """Kill a command that takes ``length`` seconds at a random moment; whether the kill hit it."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    with suppress(subprocess.TimeoutExpired):
        process.wait(generator.uniform(0.2, 1.0) * length)
    was_hit = process.poll() is None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return was_hit


def seconds_of(command: Sequence[str], folder: Path) -> float:
    """Seconds that a command takes to its successful end."""
    start = time.monotonic()
    ended = run(command, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return time.monotonic() - start


def withstands(
    command: Callable[[Path], Sequence[str]],
    outcome: Callable[[Path], object],
    folder: Path,
    kills: int,
    generator: random.Random,
) -> tuple[int, bool]:
    """How often a command's outcome was compared with an undisturbed one, and whether it was always equal.

    A command that is killed is started again, with the same output; one that comes to its end begins anew
    with another, until so many kills have hit.

    Args:
        command: The command whose output goes to a path.
        outcome: What is compared of an output.
        folder: Where it runs and where its outputs go.
        kills: How many must hit.
        generator: Of the moments.
    """
    undisturbed = folder / "undisturbed"
    length = seconds_of(command(undisturbed), folder)
    expected = outcome(undisturbed)
    outputs = (folder / f"killed{number}" for number in itertools.count())
    output = next(outputs)
    comparisons = []
    for _ in track(range(kills), "kills", total=kills):
        while not killed(command(output), folder, length, generator):  # it came to its end
            comparisons.append(outcome(output) == expected)
            output = next(outputs)
    seconds_of(command(output), folder)
    comparisons.append(outcome(output) == expected)
    return len(comparisons), all(comparisons)


def killed_experiment(place: Workplace, kills: int, generator: random.Random) -> tuple[int, bool]:
    """``experiment=per_unit``, judged by every metric."""

    def command(sweep: Path) -> list[str]:
        return place.command("experiment=per_unit", f"hydra.sweep.dir={sweep}", cache=sweep / "cache")

    folder = place.folder / "killed_experiment"
    folder.mkdir()
    return withstands(command, place.metrics, folder, kills, generator)


def killed_training(place: Workplace, kills: int, generator: random.Random) -> tuple[int, bool]:
    """``speakerquant-train``, judged by its weights, bit by bit."""
    speech = place.data[1].removeprefix("data.root=")
    folder = place.folder / "killed_training"
    folder.mkdir()

    def command(output: Path) -> list[str]:
        return [
            str(Path(sys.executable).with_name("speakerquant-train")),
            *("training_data.synthetic_share=0", f"training_data.root={speech}"),
            *(f"validation.root={speech}", f"validation.trials={speech}/{TRIALS_FILE}"),
            *("batch_size=4", "crop_seconds=0.5", "model.architecture.channels=32"),
            *("training.num_steps=300", "training.validate_every=10", "training.warmup_steps=5"),
            *(f"output={output}.safetensors", f"cache.root={place.folder / 'cache'}"),
            f"tracking.uri=sqlite:///{place.folder}/mlflow.db",
        ]

    def weights(output: Path) -> dict[str, bytes]:
        return {name: value.tobytes() for name, value in load_file(f"{output}.safetensors").items()}

    return withstands(command, weights, folder, kills, generator)


def reused_folder(place: Workplace, kills: int, generator: random.Random) -> tuple[int, int, int]:
    """Runs of two masks in turn into one folder, each killed; then the engine there is asked.

    Returns:
        Answers by the engine and the threshold of one run, refusals, and answers by those of two runs.
    """
    folder = place.folder / "reused"
    thresholds = {}
    for mask in ("none", "all_int2"):
        whole = place.folder / f"whole_{mask}"
        length = seconds_of(place.command(f"mask={mask}", f"hydra.run.dir={whole}"), place.folder)
        engine = find_engine(whole)
        thresholds[read_provenance(engine).network["mask"]] = known_threshold(engine)
    right = refused = mixed = 0
    for number in track(range(kills), "kills in a folder", total=kills):
        mask = ("none", "all_int2")[number % 2]
        command = place.command(f"mask={mask}", f"hydra.run.dir={folder}")
        killed(command, place.folder, length, generator)
        try:
            engine = find_engine(folder)
            _, provenance = read_engine(engine)
            is_right = thresholds[provenance.network["mask"]] == known_threshold(engine)
        except UserError:
            refused += 1
        else:
            right, mixed = right + is_right, mixed + (not is_right)
    return right, refused, mixed


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own in memory."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def scarce(place: Workplace) -> dict[str, str]:
    """What becomes of one mask where something is short."""
    mask = ("mask=all",)
    reference = place.folder / "reference"
    assert run(place.command(*mask, f"hydra.run.dir={reference}"), cwd=place.folder).returncode == 0
    outcomes: dict[str, str] = {}

    def judge(name: str, ended: "subprocess.CompletedProcess[str]", output: Path) -> None:
        errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        if "Traceback" in ended.stderr:
            outcomes[name] = f"FAULT: {ended.stderr.splitlines()[-1]}"
        elif ended.returncode == 0:
            same = place.metrics(output) == place.metrics(reference)
            outcomes[name] = "the same metrics" if same else "FAULT: other metrics"
        else:
            outcomes[name] = (
                errors[0] if len(errors) == 1 else f"FAULT: {ended.returncode}, {ended.stderr[-300:]}"
            )

    def attempt(name: str, prefix: Sequence[str] = (), **changes: Any) -> None:
        output = place.folder / name.replace(" ", "_")
        command = place.command(*mask, f"hydra.run.dir={output}", cache=place.folder / f"cache {name}")
        judge(name, run([*prefix, *command], cwd=place.folder, **changes), output)

    limited = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"]
    attempt("64 file handles", limited)
    attempt("one core", ["taskset", "-c", "0"])
    attempt("no HOME", ["env", "-u", "HOME", "-u", "XDG_CACHE_HOME"])
    if os.geteuid() == 0 and shutil.which("mount"):
        for size in SIZES:
            disk = place.folder / f"disk{size}"
            with small_disk(disk, f"size={size}m"):
                output = disk / "run"
                command = place.command(*mask, f"hydra.run.dir={output}", cache=disk / "cache", runs=disk)
                judge(f"a disk of {size} MB", run(command, cwd=place.folder), output)
        disk = place.folder / "readonly"
        with small_disk(disk, "ro"):
            output = place.folder / "on_readonly"
            command = place.command(*mask, f"hydra.run.dir={output}", cache=disk / "cache")
            judge("a read-only cache", run(command, cwd=place.folder), output)
    return outcomes


def crowded(place: Workplace) -> str:
    """Eight commands started together on one new study, tracking store and cache."""
    units = ("input_conv", "se_res2block1", "se_res2block2", "se_res2block3", "attentive_pooling")
    together = place.folder / "together"
    together.mkdir()
    command = place.command(
        "experiment=search_int8",
        *(f"mask.{unit}=fp32" for unit in units),
        "data.development_trials=null",
        "hydra.sweeper.study_name=together",
        cache=together / "cache",
        runs=together,
    )
    processes = [
        subprocess.Popen(command, cwd=together, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    errors = [process.communicate(timeout=900)[1] for process in processes]
    failed = [error[-300:] for process, error in zip(processes, errors, strict=True) if process.returncode]
    found = place.metrics(together)
    lost = 4 - len({mask for mask, *_ in found})
    return f"{len(failed)} of 8 failed {failed[:1] or ''}, {len(found)} results, {lost} of 4 trials lost"


def cut_journals(folder: Path) -> tuple[int, int, str]:
    """A journal cut at every byte of its last 300: how many cuts, how many it survived, trials kept.

    It survives a cut if the study opens, takes one more trial, and opens again with it.
    """
    axis = CategoricalDistribution(tuple(range(9)))
    journal, num_trials = folder / "cut.journal", 4

    def study() -> Ledger:
        return Ledger(open_storage(str(journal)), "cut", Space({"a": axis}), Goals({"cost": "minimize"}), {})

    def evaluate(value: int) -> None:
        claim = study().claim({"a": value}, "cut", limit=9)
        assert claim is not None
        study().complete(claim, {"cost": 1.0})

    for value in range(num_trials):
        evaluate(value)
    whole = journal.read_bytes()
    kept = []
    for length in range(len(whole) - 300, len(whole)):
        journal.write_bytes(whole[:length])
        with suppress(Exception):
            before = len(study().history().completed)
            evaluate(num_trials)
            if len(study().history().completed) == before + 1:
                kept.append(before)
    return 300, len(kept), f"{min(kept)} to {max(kept)} of {num_trials}"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*map(str, row))
    table_console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=240, help="of fuzzing, for each reader")
    parser.add_argument("--kills", type=int, default=20, help="that must hit the experiment, and training")
    parser.add_argument("--seed", type=int, default=0, help="of inputs and moments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="robustness-") as name:
        folder = Path(name)
        place = workplace(folder)
        all_targets = targets(folder, place.checkpoint)
        rows = []
        for kind, target in track(all_targets.items(), "readers", total=len(all_targets)):
            tried, faults = fuzz(target, folder / f"fuzzed{target.suffix}", arguments.seconds, arguments.seed)
            rows.append((kind, tried, len(faults), "; ".join(faults)[:300]))
        show(f"fuzzing, {describe_cpu()}", ["reader", "inputs tried", "faults", "which"], rows)
        show("scarcity", ["what is short", "outcome"], [*scarce(place).items()])
        show("a crowd", ["eight commands on one study"], [[crowded(place)]])
        columns = ["cuts", "opened, gone on with and opened again", "trials kept"]
        show("journals cut at every byte of their last 300", columns, [cut_journals(folder)])
        generator = random.Random(arguments.seed)
        rows = []
        for name, kill in {"per_unit": killed_experiment, "training": killed_training}.items():
            compared, same = kill(place, arguments.kills, generator)
            rows.append((name, arguments.kills, compared, "the same" if same else "FAULT: others"))
        answers = reused_folder(place, arguments.kills, generator)
        show(
            "one folder for two masks, killed in turn",
            ["answers of one run", "refusals", "FAULTS: answers of two"],
            [answers],
        )
        show("kills", ["what", "kills that hit", "comparisons", "metrics or weights afterwards"], rows)


if __name__ == "__main__":
    main()
