"""How long one request takes, and how long many take together."""

import time
from collections.abc import Iterable

import numpy as np

from speakerquant.audio.features import FeatureArray
from speakerquant.engine.base import Engine
from speakerquant.measuring.engine_metrics import Latency

REQUEST_SECONDS = 3.0
WARM_UPS = 5
REPEATS = 50  # requests of a measurement that is made for its own sake


def request_of(recording: FeatureArray, frames_per_second: float) -> FeatureArray:
    """Features ``[n_mels, T]`` of a recording, cut or repeated to :data:`REQUEST_SECONDS`."""
    frames = round(REQUEST_SECONDS * frames_per_second)
    request: FeatureArray = recording[:, np.arange(frames) % recording.shape[1]]
    return request


def measure_latency(engine: Engine, request: FeatureArray, repeats: int = REPEATS) -> Latency:
    """Time of a request with one recording ``[n_mels, T]`` while no other is in flight.

    Both are of ``repeats`` requests, after :data:`WARM_UPS` that do not count.
    """
    times = []
    for _ in range(WARM_UPS + repeats):
        start = time.perf_counter()
        engine.embed(request[np.newaxis])
        times.append(time.perf_counter() - start)
    median, tail = np.percentile(1000 * np.array(times[WARM_UPS:]), [50, 95])
    return Latency(float(median), float(tail))


def measure_real_time_factor(engine: Engine, recordings: Iterable[FeatureArray], seconds: float) -> float:
    """Seconds of embedding per second of speech, with as many requests in flight as the engine has room for.

    Args:
        engine: What embeds.
        recordings: Features ``[n_mels, T]``.
        seconds: Length of all recordings together.
    """
    start = time.perf_counter()
    for _ in engine.embed_many(recordings):
        pass
    return (time.perf_counter() - start) / seconds
