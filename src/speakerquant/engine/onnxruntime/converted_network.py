"""Checks a network that was converted from an ONNX file against ONNX Runtime on the file itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from speakerquant.architectures.onnx_file.network import OnnxFileNetwork
from speakerquant.architectures.onnx_file.reading import read_model, with_open_sizes
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.errors import UserError, first_line

_LARGEST_DIFFERENCE = 1e-4
_FURTHER_LENGTHS = (0, 1, 57, 100, 212)
_ERROR = 3


def check_converted(network: SpeakerNetwork) -> None:
    """Compare embeddings of noise, of several lengths from the fewest frames on, as far as it takes them.

    Raises:
        UserError: they differ by more than 1e-4 of the largest value, or ONNX Runtime cannot run the file.
    """
    assert isinstance(network, OnnxFileNetwork)
    path = Path(network.config.file)
    options = ort.SessionOptions()
    options.log_severity_level = _ERROR
    stored, _ = read_model(path)
    model = with_open_sizes(stored).SerializeToString()
    with _said_of(path):
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    fewest = network.min_frames
    generator = torch.Generator().manual_seed(0)
    for frames in sorted({network.most_frames(fewest + further) for further in _FURTHER_LENGTHS}):
        features = torch.randn(1, network.n_mels, frames, generator=generator)
        given = network.layout.arranged(features).contiguous().numpy()
        with torch.inference_mode():
            ours = network(features).numpy()
        with _said_of(path):
            [theirs] = session.run(None, {session.get_inputs()[0].name: given})
        difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        if not difference <= _LARGEST_DIFFERENCE:
            raise UserError(
                f"{path}: converted, it differs from ONNX Runtime by {difference:.1e} at {frames} frames, "
                f"which is more than rounding ({_LARGEST_DIFFERENCE:.0e}); please report it with the file"
            )


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's have no class in common
        raise UserError(f"{path}: ONNX Runtime cannot run it ({first_line(error)[:200]})") from None
