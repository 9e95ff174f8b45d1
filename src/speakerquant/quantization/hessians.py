"""What rounding needs to know of a layer's inputs: the sums of their outer products."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save_file
from torch import Tensor, nn

from speakerquant.architectures.layers import LayerGeometry, quantizable_layers
from speakerquant.errors import UserError
from speakerquant.quantization.calibration import forward_all

Hessians = Mapping[str, npt.NDArray[np.float32]]

_HELD_OUT = 5  # one of so many recordings
_TOGETHER = 512  # places that are multiplied at once


def gather_hessians(model: nn.Module, features: Iterable[Tensor], places: int = 400) -> Hessians:
    """Sums over recordings, whatever the mask: the layers' inputs are those of the FP32 network.

    Memory holds two matrices for each layer and no inputs.

    Args:
        model: Network in FP32; it is not changed.
        features: Recordings ``[n_mels, T]``, or pieces of each ``[B, n_mels, T]``, taken once and in order.
        places: How many places of a recording count, of each layer's input.

    Returns:
        By layer, ``[2, groups, taps * in, taps * in]``: of what the taps of a convolution see in each group
        of its channels, one tap after the other. First over four of five recordings, then over the others,
        on which it is chosen how far the first are to be trusted.

    Raises:
        UserError: there are no recordings, or all that a layer sees is zero.
    """
    generator = torch.Generator().manual_seed(0)
    network = model.eval()
    sums: dict[str, _Sums] = {}
    count, part = 0, 0
    handles = []
    for name, layer in quantizable_layers(network).items():
        geometry = LayerGeometry.of(layer)

        def add(
            _: nn.Module, inputs: tuple[Tensor], name: str = name, geometry: LayerGeometry = geometry
        ) -> None:
            windows = geometry.windows(inputs[0])
            num_places = windows.shape[: windows.dim() - 1 - geometry.num_axes].numel()
            chosen = torch.randperm(num_places, generator=generator)[:places]
            sums.setdefault(name, _Sums()).add(part, geometry.seen(windows, chosen))

        handles.append(layer.register_forward_pre_hook(add))
    try:
        for recording in features:
            part = int(count % _HELD_OUT == _HELD_OUT - 1)
            count += forward_all(network, [recording])
    finally:
        for handle in handles:
            handle.remove()
    if not count:
        raise UserError(
            "rounding: there are no recordings to round for; check rounding.root and data.calibration_root"
        )
    with torch.inference_mode():
        hessians = {name: each.total() for name, each in sums.items()}
    for name, hessian in hessians.items():
        if not hessian.diagonal(dim1=2, dim2=3).any():
            raise UserError(f"rounding: the input of {name} is always zero; round for other recordings")
    return {name: hessian.cpu().numpy() for name, hessian in hessians.items()}


class _Sums:
    """Products of what a layer sees, ``[groups, places, columns]`` each, of two parts of the recordings.

    Those of several recordings are multiplied at once: adding to a large matrix takes longer than a product.
    """

    def __init__(self) -> None:
        self._sums: list[Tensor | None] = [None, None]
        self._pending: list[list[Tensor]] = [[], []]

    def add(self, part: int, seen: Tensor) -> None:
        """Add what was seen of one recording."""
        pending = self._pending[part]
        pending.append(seen)
        if sum(each.shape[1] for each in pending) >= _TOGETHER:
            self._multiply(part)

    def total(self) -> Tensor:
        """The sums, ``[2, groups, columns, columns]``, once there is something to add."""
        for part in range(2):
            self._multiply(part)
        found = [each for each in self._sums if each is not None]
        return torch.stack([torch.zeros_like(found[0]) if each is None else each for each in self._sums])

    def _multiply(self, part: int) -> None:
        if pending := self._pending[part]:
            seen = torch.cat(pending, dim=1)
            product, before = seen.transpose(1, 2) @ seen, self._sums[part]
            self._sums[part] = product if before is None else before.add_(product)
            pending.clear()


def save_hessians(hessians: Hessians, path: Path) -> None:
    """Write them as one safetensors file."""
    save_file(dict(hessians), path)


def load_hessians(path: Path) -> Hessians:
    """Read what :func:`save_hessians` wrote.

    Raises:
        UserError: the file is missing or holds something else.
    """
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a file of Hessians ({error}); delete it and run again") from None
