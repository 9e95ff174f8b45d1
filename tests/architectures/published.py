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

    def convolved(
        self,
        x: Tensor,
        name: str,
        out: int,
        *kernel: int,
        stride: tuple[int, ...] | int = 1,
        dilation: int = 1,
    ) -> Tensor:
        """Along as many axes as the kernel has, with zeros at the ends and without a bias."""
        convolve = F.conv1d if len(kernel) == 1 else F.conv2d
        weight = self._weight(name, (out, x.shape[1], *kernel))
        padding = [dilation * (taps // 2) for taps in kernel]
        return convolve(x, weight, None, stride, padding, dilation)

    def plain_norm(self, x: Tensor, name: str) -> Tensor:
        """With neither scale nor shift."""
        mean = self._vector(f"{name}.running_mean", x.shape[1])
        return F.batch_norm(x, mean, self._scale(name, "running_var", x.shape[1]), eps=1e-5)

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


def campplus(p: Parameters, x: Tensor, *, floor: float = 0.0) -> Tensor:
    """A two-dimensional head, then dense blocks, gated by the means of segments and of the whole."""
    maps = p.norm(p.convolved(x[:, None], "head.conv1", 4, 3, 3), "head.bn1").relu()
    for stage in ("head.layer1", "head.layer2"):
        maps = _residual(p, maps, f"{stage}.0", 4, (2, 1))
        maps = _residual(p, maps, f"{stage}.1", 4, (1, 1))
    maps = p.norm(p.convolved(maps, "head.conv2", 4, 3, 3, stride=(2, 1)), "head.bn2").relu()
    x = p.convolved(maps.flatten(1, 2), "xvector.tdnn.linear", 8, 5, stride=2)
    x = p.norm(x, "xvector.tdnn.nonlinear.batchnorm").relu()
    for block, (layers, dilation) in enumerate(((2, 1), (1, 2), (3, 2)), start=1):
        for number in range(1, layers + 1):
            layer = f"xvector.block{block}.tdnnd{number}"
            hidden = p.norm(x, f"{layer}.nonlinear1.batchnorm").relu()
            hidden = p.norm(
                p.convolved(hidden, f"{layer}.linear1", 12, 1), f"{layer}.nonlinear2.batchnorm"
            ).relu()
            local = p.convolved(hidden, f"{layer}.cam_layer.linear_local", 4, 3, dilation=dilation)
            segments = [
                each.mean(2, keepdim=True).expand_as(each) for each in torch.split(hidden, 100, dim=2)
            ]
            context = hidden.mean(2, keepdim=True) + torch.cat(segments, dim=2)
            gate = p.conv(context, f"{layer}.cam_layer.linear1", 6).relu()
            gate = p.conv(gate, f"{layer}.cam_layer.linear2", 4).sigmoid()
            x = torch.cat([x, local * gate], dim=1)
        transit = f"xvector.transit{block}"
        x = p.norm(x, f"{transit}.nonlinear.batchnorm").relu()
        x = p.convolved(x, f"{transit}.linear", x.shape[1] // 2, 1)
    x = p.norm(x, "xvector.out_nonlinear.batchnorm").relu()
    pooled = torch.cat([x.mean(2), (x.var(2) + floor).sqrt()], dim=1)
    embedding = p.convolved(pooled[:, :, None], "xvector.dense.linear", 20, 1)[:, :, 0]
    return p.plain_norm(embedding, "xvector.dense.nonlinear.batchnorm")


def resnet(
    p: Parameters,
    x: Tensor,
    *,
    blocks: tuple[int, ...] = (2, 1, 1, 1),
    bottleneck: bool = False,
    two_layers: bool = False,
    prefix: str = "",
    floor: float = 1e-7,
) -> Tensor:
    """Four stages of residual blocks, each of which but the first halves bands and frames."""
    maps = p.norm(p.convolved(x[:, None], f"{prefix}conv1", 4, 3, 3), f"{prefix}bn1").relu()
    block = _bottleneck if bottleneck else _residual
    for stage, count in enumerate(blocks):
        for number in range(count):
            stride = (2, 2) if stage and not number else (1, 1)
            maps = block(p, maps, f"{prefix}layer{stage + 1}.{number}", 4 * 2**stage, stride)
    frames = maps.flatten(1, 2)
    pooled = torch.cat([frames.mean(2), (frames.var(2) + floor).sqrt()], dim=1)
    embedding = p.linear(pooled, f"{prefix}seg_1", 20)
    if not two_layers:
        return embedding
    return p.linear(p.plain_norm(embedding.relu(), f"{prefix}seg_bn_1"), f"{prefix}seg_2", 20)


def _residual(p: Parameters, x: Tensor, name: str, channels: int, stride: tuple[int, int]) -> Tensor:
    hidden = p.norm(p.convolved(x, f"{name}.conv1", channels, 3, 3, stride=stride), f"{name}.bn1").relu()
    hidden = p.norm(p.convolved(hidden, f"{name}.conv2", channels, 3, 3), f"{name}.bn2")
    return (hidden + _shortcut(p, x, name, channels, stride)).relu()


def _bottleneck(p: Parameters, x: Tensor, name: str, channels: int, stride: tuple[int, int]) -> Tensor:
    hidden = p.norm(p.convolved(x, f"{name}.conv1", channels, 1, 1), f"{name}.bn1").relu()
    hidden = p.norm(p.convolved(hidden, f"{name}.conv2", channels, 3, 3, stride=stride), f"{name}.bn2").relu()
    hidden = p.norm(p.convolved(hidden, f"{name}.conv3", 4 * channels, 1, 1), f"{name}.bn3")
    return (hidden + _shortcut(p, x, name, 4 * channels, stride)).relu()


def _shortcut(p: Parameters, x: Tensor, name: str, channels: int, stride: tuple[int, int]) -> Tensor:
    if stride == (1, 1) and x.shape[1] == channels:
        return x
    return p.norm(p.convolved(x, f"{name}.shortcut.0", channels, 1, 1, stride=stride), f"{name}.shortcut.1")


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
