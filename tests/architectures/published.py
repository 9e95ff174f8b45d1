"""The public families' networks as their authors describe them, in functional form.

Each takes features ``[B, n_mels, T]`` and a :class:`Parameters`, which makes the weights that are asked for
by the family's own names: afterwards it is the family's state dict.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


class Parameters(dict[str, Tensor]):
    """Random weights by name, made when they are first used."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def conv(
        self, x: Tensor, name: str, out: int, width: int = 1, dilation: int = 1, pad: str = "zeros"
    ) -> Tensor:
        beyond = dilation * (width // 2)
        if beyond:
            x = F.pad(x, (beyond, beyond), mode="reflect" if pad == "reflect" else "constant")
        shape = (out, x.shape[1], width)
        return F.conv1d(x, self._weight(name, shape), self._vector(f"{name}.bias", out), dilation=dilation)

    def linear(self, x: Tensor, name: str, out: int) -> Tensor:
        return F.linear(x, self._weight(name, (out, x.shape[1])), self._vector(f"{name}.bias", out))

    def norm(self, x: Tensor, name: str) -> Tensor:
        channels = x.shape[1]
        mean, variance = (
            self._vector(f"{name}.running_mean", channels),
            self._scale(name, "running_var", channels),
        )
        weight, bias = self._scale(name, "weight", channels), self._vector(f"{name}.bias", channels)
        self[f"{name}.num_batches_tracked"] = torch.tensor(7)
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=1e-5)

    def _weight(self, name: str, shape: tuple[int, ...]) -> Tensor:
        made = torch.randn(shape, generator=self._generator) / (shape[1] ** 0.5)
        return self.setdefault(f"{name}.weight", made)

    def _vector(self, name: str, size: int) -> Tensor:
        return self.setdefault(name, 0.2 * torch.randn(size, generator=self._generator))

    def _scale(self, name: str, kind: str, size: int) -> Tensor:
        return self.setdefault(f"{name}.{kind}", 0.5 + torch.rand(size, generator=self._generator))


def speechbrain(p: Parameters, x: Tensor, channels: int = 32, aggregation: int = 48) -> Tensor:
    """TDNN blocks are convolution (reflected at the ends), ReLU, normalisation; blocks see the one before."""

    def tdnn(x: Tensor, name: str, out: int, width: int = 1, dilation: int = 1) -> Tensor:
        convolved = p.conv(x, f"{name}.conv.conv", out, width, dilation, pad="reflect")
        return p.norm(F.relu(convolved), f"{name}.norm.norm")

    x = tdnn(x, "blocks.0", channels, 5)
    outputs = []
    for index in (1, 2, 3):
        block, hidden = f"blocks.{index}", tdnn(x, f"blocks.{index}.tdnn1", channels)
        first, *groups = hidden.chunk(8, dim=1)
        kept = [first]
        for number, group in enumerate(groups):
            source = group if number == 0 else group + kept[-1]
            name = f"{block}.res2net_block.blocks.{number}"
            kept.append(tdnn(source, name, channels // 8, 3, index + 1))
        hidden = tdnn(torch.cat(kept, dim=1), f"{block}.tdnn2", channels)
        gate = F.relu(p.conv(hidden.mean(2, keepdim=True), f"{block}.se_block.conv1.conv", 16))
        x = x + hidden * p.conv(gate, f"{block}.se_block.conv2.conv", channels).sigmoid()
        outputs.append(x)
    x = tdnn(torch.cat(outputs, dim=1), "mfa", aggregation)
    mean, deviation = x.mean(2, keepdim=True), x.var(2, correction=0, keepdim=True).clamp(1e-12).sqrt()
    context = torch.cat([x, mean.expand_as(x), deviation.expand_as(x)], dim=1)
    hidden = tdnn(context, "asp.tdnn", 24).tanh()
    pooled = _pooled(x, p.conv(hidden, "asp.conv.conv", aggregation), floor=1e-12)
    return p.conv(p.norm(pooled, "asp_bn.norm")[:, :, None], "fc.conv", 20)[:, :, 0]


def wespeaker(p: Parameters, x: Tensor, *, global_context: bool, embedding_norm: bool) -> Tensor:
    """Convolutions see zeros at the ends; no norm in the attention; squeeze-excitation is of matrices."""
    channels, aggregation = 32, 48

    def conv_relu_norm(x: Tensor, name: str, width: int = 1) -> Tensor:
        return p.norm(F.relu(p.conv(x, f"{name}.conv", channels, width)), f"{name}.bn")

    x = conv_relu_norm(x, "layer1", 5)
    outputs = []
    for index in (2, 3, 4):
        block = f"layer{index}.se_res2block"
        *groups, last = conv_relu_norm(x, f"{block}.0").chunk(8, dim=1)
        hidden = torch.cat([*_res2(p, groups, f"{block}.1", index), last], dim=1)
        hidden = conv_relu_norm(hidden, f"{block}.2")
        gate = F.relu(p.linear(hidden.mean(2), f"{block}.3.linear1", 16))
        x = x + hidden * p.linear(gate, f"{block}.3.linear2", channels).sigmoid()[:, :, None]
        outputs.append(x)
    x = F.relu(p.conv(torch.cat(outputs, dim=1), "conv", aggregation))
    context = x
    if global_context:
        mean, deviation = x.mean(2, keepdim=True), (x.var(2, keepdim=True) + 1e-7).sqrt()
        context = torch.cat([x, mean.expand_as(x), deviation.expand_as(x)], dim=1)
    pooled = _pooled(x, p.conv(p.conv(context, "pool.linear1", 24).tanh(), "pool.linear2", aggregation), 1e-7)
    embedding = p.linear(p.norm(pooled, "bn"), "linear", 20)
    return p.norm(embedding, "bn2") if embedding_norm else embedding


def voxceleb_trainer(p: Parameters, x: Tensor) -> Tensor:
    """Each block sees the sum of all before it; the deviation in the attention's context is unbiased."""
    channels, aggregation = 32, 48
    x = p.norm(F.relu(p.conv(x, "speaker_encoder.conv1", channels, 5)), "speaker_encoder.bn1")
    outputs: list[Tensor] = []
    for index in (1, 2, 3):
        block, source = f"speaker_encoder.layer{index}", x + sum(outputs)
        hidden = p.norm(F.relu(p.conv(source, f"{block}.conv1", channels)), f"{block}.bn1")
        *groups, last = hidden.chunk(8, dim=1)
        hidden = torch.cat([*_res2(p, groups, block, index + 1), last], dim=1)
        hidden = p.norm(F.relu(p.conv(hidden, f"{block}.conv3", channels)), f"{block}.bn3")
        gate = F.relu(p.conv(hidden.mean(2, keepdim=True), f"{block}.se.se.1", 16))
        outputs.append(source + hidden * p.conv(gate, f"{block}.se.se.3", channels).sigmoid())
    x = F.relu(p.conv(torch.cat(outputs, dim=1), "speaker_encoder.layer4", aggregation))
    mean, deviation = x.mean(2, keepdim=True), x.var(2, keepdim=True).clamp(1e-4).sqrt()
    context = torch.cat([x, mean.expand_as(x), deviation.expand_as(x)], dim=1)
    hidden = F.relu(p.conv(context, "speaker_encoder.attention.0", 24))
    hidden = p.norm(hidden, "speaker_encoder.attention.2").tanh()
    pooled = _pooled(x, p.conv(hidden, "speaker_encoder.attention.4", aggregation), 1e-4)
    embedding = p.linear(p.norm(pooled, "speaker_encoder.bn5"), "speaker_encoder.fc6", 20)
    return p.norm(embedding, "speaker_encoder.bn6")


def _res2(p: Parameters, groups: list[Tensor], block: str, dilation: int) -> list[Tensor]:
    outputs: list[Tensor] = []
    for number, group in enumerate(groups):
        source = outputs[-1] + group if outputs else group
        convolved = p.conv(source, f"{block}.convs.{number}", group.shape[1], 3, dilation)
        outputs.append(p.norm(F.relu(convolved), f"{block}.bns.{number}"))
    return outputs


def _pooled(x: Tensor, attention: Tensor, floor: float) -> Tensor:
    weights = attention.softmax(dim=2)
    mean = (weights * x).sum(2)
    variance = (weights * (x - mean[:, :, None]).square()).sum(2)
    return torch.cat([mean, variance.clamp(floor).sqrt()], dim=1)
