"""Networks as the ONNX files that others would give."""

from pathlib import Path

import torch
from torch import Tensor, nn


class TimeFirst(nn.Module):
    """A network that takes features as ``[B, T, bands]``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        embeddings: Tensor = self.network(features.transpose(1, 2))
        return embeddings


def write_onnx(
    network: nn.Module,
    path: Path,
    shape: tuple[int, ...],
    names: tuple[str, str] = ("feats", "embs"),
    dynamic: bool = True,
) -> Path:
    """The file of a network, with the axis of its bands fixed; time is the longer one of axes 1 and 2.

    Args:
        network: From features to embeddings.
        path: The file.
        shape: Of the features.
        names: Of input and output.
        dynamic: Whether the file leaves batch and time open.
    """
    features, embeddings = names
    axes = {features: {0: "B", 1 + int(shape[1] < shape[2]): "T"}, embeddings: {0: "B"}}
    torch.onnx.export(
        network.eval(),
        (torch.zeros(shape),),
        path,
        input_names=[features],
        output_names=[embeddings],
        dynamic_axes=axes if dynamic else None,
        opset_version=17,
        dynamo=False,
    )
    return path
