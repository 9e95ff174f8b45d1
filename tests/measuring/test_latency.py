"""Latency and real-time factor, on an engine whose speed is known."""

import time

import numpy as np
import pytest

from speakerquant.engine.base import Engine, FloatArray
from speakerquant.measuring.latency import measure_latency, measure_real_time_factor, request_of


class KnownSpeed(Engine):
    """Slow while it warms up, then 20 ms for a request, of which two run at once."""

    parallel_requests = 2

    def __init__(self) -> None:
        super().__init__(b"")
        self.shapes: list[tuple[int, ...]] = []

    def embed(self, features: FloatArray) -> FloatArray:
        time.sleep(0.1 if len(self.shapes) < 5 else 0.02)
        self.shapes.append(features.shape)
        return np.zeros((len(features), 4), np.float32)


def test_latency_is_that_of_fifty_requests_after_five_that_do_not_count() -> None:
    engine = KnownSpeed()
    latency = measure_latency(engine, request_of(np.zeros((80, 70), np.float32), frames_per_second=100))
    assert engine.shapes == [(1, 80, 300)] * 55
    assert 20 <= latency.ms_p50 <= latency.ms_p95 < 100


@pytest.mark.parametrize("frames", [70, 300, 700])
def test_a_request_is_three_seconds_of_the_recording(frames: int) -> None:
    recording = np.arange(frames, dtype=np.float32)[np.newaxis].repeat(2, axis=0)
    request = request_of(recording, frames_per_second=100)
    np.testing.assert_array_equal(request[1], np.arange(300) % frames)


def test_real_time_factor_is_of_requests_in_flight() -> None:
    engine = KnownSpeed()
    engine.shapes = [()] * 5
    factor = measure_real_time_factor(engine, [np.zeros((80, 300), np.float32)] * 50, seconds=150)
    assert 0.5 * 50 * 0.02 / 150 <= factor < 0.95 * 50 * 0.02 / 150
