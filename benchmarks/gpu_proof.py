"""Proves TensorRT on this machine's NVIDIA GPU: ``make gpu-proof``, or ``python benchmarks/gpu_proof.py``.

Whichever of ``engine=tensorrt`` and ``engine=tensorrt_rtx`` runs here builds the ten named masks of the
shipped checkpoint (C = 512) and is checked and timed: size, fidelity (smallest cosine with fake
quantization), latency of a request of 3 s, and a build whose kernels have been timed before. Then come the
tests of the engine contract, and last the sizes at the paper's width (C = 1024) beside the paper's.

No network is needed, and nothing of the project installed: an unpacked folder will do, with the packages that
are named if they are missing. What is not reached within ``--seconds`` is said to be so. Results:
``gpu_proof.json`` and ``gpu_proof.md``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# By the modules that they bring.
PACKAGES = {
    **{name: name for name in ("av", "filelock", "numpy", "omegaconf", "onnx", "platformdirs", "pytest")},
    **{name: name for name in ("rich", "safetensors", "scipy", "soundfile", "sqlalchemy", "threadpoolctl")},
    **{name: name for name in ("torch", "torchaudio")},
    "pytorch_quantization": "pytorch-quantization",
}
ENGINES = ("tensorrt", "tensorrt_rtx")
MEASURED = ("size_mb", "fidelity", "latency_ms_p50", "latency_ms_p95", "build_s")
PROJECT = Path(__file__).parent.parent
CONTRACT = PROJECT / "tests" / "contract" / "test_engine.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="interpreter that has TensorRT (default: as engine.python)")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/gpu_proof"), help="folder for the results"
    )
    parser.add_argument("--seconds", type=float, default=450, help="for everything")
    arguments = parser.parse_args()
    if missing := [package for module, package in PACKAGES.items() if find_spec(module) is None]:
        sys.exit(f"error: missing packages: {', '.join(missing)}; install them into {sys.executable}")
    from gpu_proof_parts import Proof, running_builders  # imports those packages

    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        builders, reasons = running_builders(ENGINES, arguments.python, Path(folder) / "cache")
        if not builders:
            sys.exit(f"error: no TensorRT runs here: {'; '.join(reasons.values())}")
        record: dict[str, Any] = {"not here": reasons, "engines": {}}
        for number, (name, builder) in enumerate(builders.items(), start=1):
            deadline = start + arguments.seconds * number / len(builders)
            proof = Proof(builder, Path(folder), deadline)
            record["engines"][name] = {
                "environment": dict(builder.environment),
                "masks": dict(_shown(name, proof.masks())),
                "built_again": dict(proof.built_again()),
                "contract": _contract(name, arguments.python, deadline),
                "paper": dict(_shown(f"{name}, C = 1024", proof.paper())),
            }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "gpu_proof.json").write_text(json.dumps(record, indent=2) + "\n")
    table = "\n".join(_markdown(record))
    (arguments.output / "gpu_proof.md").write_text(table + "\n")
    print(table)


def _shown(what: str, rows: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for mask, row in rows:
        print(f"{what}: {mask}: {row}", file=sys.stderr, flush=True)
        yield mask, row


def _contract(engine: str, python: str | None, deadline: float) -> Mapping[str, Any]:
    """How the contract of all engines went for this one."""
    left = deadline - time.monotonic()
    if left < 10:
        return {"not reached": "no time was left"}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", str(CONTRACT), f"--junitxml={report}"]
        others = "" if engine == ENGINES[-1] else f" and not {ENGINES[-1]}"
        # Without the sizes at the paper's width, which come last.
        command += ["-k", f"{engine}{others} and not size", "-p", "no:cacheprovider"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), *sys.path])}
        if python:
            environment["SPEAKERQUANT_TENSORRT_PYTHON"] = python
        try:
            ended = subprocess.run(
                command,
                cwd=PROJECT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=left,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"not reached": f"its end, within {left:.0f} s"}
        if not report.exists():
            return {"not reached": (ended.stdout + ended.stderr).strip().splitlines()[-1]}
        [suite] = ElementTree.parse(report).getroot().iter("testsuite")
        counts = {key: int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped")}
        return {**counts, "failed": dict(_failed(suite))}


def _failed(suite: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """The tests of a suite that failed, or the file that could not be imported, with why in a line."""
    for case in suite.iter("testcase"):
        for trouble in (*case.iter("failure"), *case.iter("error")):
            says = (line[1:].strip() for line in (trouble.text or "").splitlines() if line.startswith("E "))
            yield case.attrib["name"], next(says, trouble.attrib["message"])


def _markdown(record: Mapping[str, Any]) -> Iterator[str]:
    for engine, proof in record["engines"].items():
        environment = ", ".join(f"{name} {value}" for name, value in proof["environment"].items())
        yield f"### {engine}: {environment}\n"
        yield "| INT8 units | size MB | fidelity | latency ms | 95 % below | build s |"
        yield "|---|---|---|---|---|---|"
        for mask, row in proof["masks"].items():
            yield f"| {mask} | {_cells(row, *MEASURED)} |"
        yield f"\n`all` built again: {json.dumps(proof['built_again'])}\n"
        yield f"Contract: {json.dumps(proof['contract'])}\n"
        yield "| C = 1024 | size MB | paper MB | ratio |"
        yield "|---|---|---|---|"
        for mask, row in proof["paper"].items():
            yield f"| {mask} | {_cells(row, 'size_mb', 'paper_mb', 'ratio')} |"
        yield ""
    for engine, reason in record["not here"].items():
        yield f"{engine}: {reason}"


def _cells(row: Mapping[str, Any], *names: str) -> str:
    if "not reached" in row:
        return " | ".join([row["not reached"], *[""] * (len(names) - 1)])
    return " | ".join(f"{row[name]:.5g}" for name in names)


if __name__ == "__main__":
    main()
