"""What only ONNX Runtime does."""

from pathlib import Path

import numpy as np
from conftest import Subject, write_model

from speakerquant.engine.onnxruntime.onnxruntime_engine import OnnxRuntimeBuilder
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import INT8_DYNAMIC


def test_ranges_found_at_run_time_are_of_one_recording_whatever_is_beside_it(
    small: Subject, tmp_path: Path
) -> None:
    write_model(
        small.network, tmp_path / "model.onnx", Mask(small.network.units(), {"*": INT8_DYNAMIC}), small.table
    )
    quiet = small.recordings[0]
    with OnnxRuntimeBuilder().build(tmp_path / "model.onnx") as engine:
        alone = engine.embed(quiet[np.newaxis])
        beside_a_loud_one = engine.embed(np.stack([quiet, 10 * quiet]))
    np.testing.assert_array_equal(beside_a_loud_one[:1], alone)
    assert not np.allclose(beside_a_loud_one[1], alone)
