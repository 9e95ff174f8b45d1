"""Speaker embeddings of whole recordings."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from speakerquant.audio.features import FeatureArray

Embeddings = npt.NDArray[np.float32]


def embed_with_network(network: nn.Module, features: Sequence[FeatureArray]) -> Embeddings:
    """Embeddings ``[num_recordings, dim]`` computed by PyTorch, one recording ``[n_mels, T]`` at a time."""
    device = next(network.parameters()).device
    # cuDNN would round to TF32 on its own
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return np.concatenate(
            [network(torch.from_numpy(item).to(device)[None]).float().cpu().numpy() for item in features]
        )
