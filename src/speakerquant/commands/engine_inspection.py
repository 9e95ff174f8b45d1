"""What an engine file is, and how fast it runs here."""

import itertools
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from speakerquant.cache import Cache
from speakerquant.commands.engine_files import found_engine
from speakerquant.console import table_console
from speakerquant.engine.backends import engine_builder
from speakerquant.engine.provenance import FRONT_END, INTERFACE, MASK, ROUNDING, Provenance, read_engine
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtRtxSettings
from speakerquant.errors import UserError
from speakerquant.measuring.latency import (
    REPEATS,
    REQUEST_SECONDS,
    measure_latency,
    measure_real_time_factor,
)
from speakerquant.quantization.precision import precision_of
from speakerquant.report.mask_words import mask_name


def info(model: str) -> None:
    """Print what made the engine and what is in it.

    Raises:
        UserError: the engine, or what says what made it, cannot be read.
    """
    with found_engine(model) as engine:
        _, provenance = read_engine(engine.path)
    _print(model, _described(provenance))


def bench(model: str, python: str | None) -> None:
    """Load the engine and print how fast it embeds speech.

    Raises:
        UserError: it cannot be loaded here.
    """
    with found_engine(model) as engine:
        _print(model, _benchmarked(engine.path, python))


def _benchmarked(path: Path, python: str | None) -> Mapping[str, str]:
    _, provenance = read_engine(path)
    network = provenance.network
    try:
        n_mels, frames_per_second = int(network["n_mels"]), float(network["frames_per_second"])
    except (KeyError, ValueError):
        raise UserError(f"{path}: its features are not described; build it with speakerquant") from None
    builder = engine_builder(provenance.engine, TensorRtRtxSettings(python=python), Cache())
    frames = round(REQUEST_SECONDS * frames_per_second)
    request = np.random.default_rng(0).standard_normal((n_mels, frames), dtype=np.float32)
    with builder.load(path) as engine:
        latency = measure_latency(engine, request)
        requests = itertools.repeat(request, REPEATS)
        factor = measure_real_time_factor(engine, requests, REPEATS * REQUEST_SECONDS)
    request_text = f"one recording of {REQUEST_SECONDS:g} s"
    return {
        **builder.environment,
        f"latency, {request_text}": f"{latency.ms_p50:.2f} ms (median), {latency.ms_p95:.2f} ms (95 %)",
        f"throughput, {engine.parallel_requests} in flight": f"{1 / factor:.1f} s of speech per second",
        "real-time factor": f"{factor:.5f}",
    }


def _described(provenance: Provenance) -> Mapping[str, str]:
    network = dict(provenance.network)
    mask = network.pop(MASK, None)
    for name in (FRONT_END, INTERFACE):  # for programs
        network.pop(name, None)
    units = dict(unit.partition("=")[::2] for unit in mask.split(",")) if mask else {}
    with suppress(UserError):  # a precision that is registered only where the engine was built
        if not any(precision_of(name).has_fitted_scales for name in units.values()):
            network.pop(ROUNDING, None)  # nothing was rounded so
    return {
        "engine": provenance.engine,
        "size": f"{provenance.size_bytes / 1e6:.3f} MB",
        **provenance.environment,
        **provenance.settings,
        **({"quantized units": mask_name(units)} if units else {}),
        **{name.replace("_", " "): value for name, value in network.items()},
        "sha256": provenance.sha256,
    }


def _print(title: str, rows: Mapping[str, str]) -> None:
    table = Table(title=escape(title), title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(escape(name), escape(value))
    table_console().print(table)
