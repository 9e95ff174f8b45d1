"""Checks that the graph of a network takes any recording that the network takes."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.errors import UserError, first_line

_FURTHER_FRAMES = 101  # behind the fewest: never as many as the example that networks are exported with has
_FATAL = 4


def check_exported(path: Path, network: SpeakerNetwork) -> None:
    """Run a graph on one recording, of another length than it was exported with.

    Raises:
        UserError: it fails, or makes something else than one embedding.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL  # it would also print what it raises
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # takes longer than the run
    frames = network.most_frames(network.min_frames + _FURTHER_FRAMES)
    features = np.zeros((1, network.n_mels, frames), np.float32)
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        [made] = session.run(None, {"features": features})
        fault = None if len(made) == 1 else f"it makes {len(made)} embeddings"
    except Exception as error:  # ONNX Runtime's have no class in common
        fault = first_line(error).partition(" Status Message")[0]
    if fault:
        raise UserError(
            f"the network cannot be written as ONNX: its graph does not take one recording of {frames} "
            f"frames ({fault}); a length or the number of recordings became a constant: compute with "
            "shapes of tensors, and self-attention (nn.MultiheadAttention, nn.TransformerEncoderLayer) by "
            "linear layers"
        )
