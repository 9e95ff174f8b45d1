"""The operators of ONNX, opset 11 to 25, that feed-forward networks are made of, as PyTorch computes them.

An operand is a tensor, or an array of NumPy where it is known before the network runs and holds integers
(places, axes and lengths) or a single value. Whatever depends on the length of the input stays a tensor, so
that the exporter sees how, and the network can be exported again for every length.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor

Integers: TypeAlias = npt.NDArray[Any]
Operand: TypeAlias = Tensor | Integers | None
Attributes: TypeAlias = Mapping[str, Any]
Result: TypeAlias = Operand | tuple[Operand, ...]
Operator: TypeAlias = Callable[[Sequence[Any], Attributes], Result]
"""Computes a node's outputs from its operands and its attributes; ``opset`` is one of these."""

DTYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}
"""The types that values may have."""

_LAST = np.iinfo(np.int64).max
_LEAST_NORM = 1e-12


def tensor(operand: Operand, like: Tensor | None = None) -> Tensor:
    """The operand as a tensor, on the device of another one if it is not there yet."""
    assert operand is not None
    value = operand if isinstance(operand, Tensor) else torch.from_numpy(np.asarray(operand))
    return value if like is None or like.device == value.device else value.to(like.device)


def pad(values: Tensor, amounts: Sequence[int], mode: str = "constant", fill: float = 0.0) -> Tensor:
    """Values with so many places added around; amounts in ONNX's order, all beginnings before all ends."""
    axes = len(amounts) // 2
    pairs = [each for axis in reversed(range(axes)) for each in (amounts[axis], amounts[axes + axis])]
    if _is_traced() and any(isinstance(each, Tensor) for each in pairs):
        return F.pad(values, pairs, mode, fill)
    while len(pairs) > 2 and not any(pairs[-2:]):
        del pairs[-2:]  # only the last axes can be reflected
    return F.pad(values, pairs, mode, fill) if mode == "constant" else F.pad(values, pairs, mode)


def around(pads: Sequence[Any], tails: Sequence[int] | None = None) -> list[Any]:
    """Padding of the axes that a window moves along as that of all axes, with the tails at the ends."""
    axes = len(pads) // 2
    ends = [end + tail for end, tail in zip(pads[axes:], tails or [0] * axes, strict=True)]
    return [0, 0, *pads[:axes], 0, 0, *ends]


def window_pads(attributes: Attributes, sizes: Sequence[Any]) -> list[Any]:
    """Padding of the axes that a window moves along, all beginnings before all ends.

    With ``auto_pad`` as TensorFlow's "same", as many windows as strides begin within the values: what that
    takes depends on the values' sizes along these axes, and is a tensor where they are.
    """
    kernel, mode = attributes["kernel_shape"], attributes.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        return list(attributes.get("pads", [0] * 2 * len(kernel)))
    strides, steps = (attributes.get(name, [1] * len(kernel)) for name in ("strides", "dilations"))
    totals = [
        _at_least_0((taps - 1) * step - (size - 1) % stride)
        for size, taps, stride, step in zip(sizes, kernel, strides, steps, strict=True)
    ]
    smaller = [total // 2 for total in totals]
    larger = [total - half for total, half in zip(totals, smaller, strict=True)]
    return [*smaller, *larger] if mode == "SAME_UPPER" else [*larger, *smaller]


def window_sizes(values: Tensor) -> list[Any]:
    """Sizes of the axes that a window moves along, those behind batch and channels."""
    return _sizes(torch._shape_as_tensor(values))[2:]


def _at_least_0(size: Any) -> Any:
    return size.clamp(min=0) if isinstance(size, Tensor) else max(size, 0)


def _is_traced() -> bool:
    """Whether the network is being exported."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _sizes(operand: Operand) -> list[Any]:
    """Integers as PyTorch's functions take them; in an export, those that depend on the input as tensors."""
    if isinstance(operand, Tensor):
        return list(operand.unbind()) if _is_traced() else list(operand.tolist())
    return list(np.atleast_1d(operand).tolist()) if operand is not None else []


def _axes(inputs: Sequence[Operand], attributes: Attributes) -> list[int]:
    """Axes: an attribute of older opsets, the second operand of newer ones."""
    if "axes" in attributes:
        return list(attributes["axes"])
    return _sizes(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else []


def _each(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda inputs, _: function(tensor(inputs[0]))


def _pair(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def operator(inputs: Sequence[Operand], _: Attributes) -> Tensor:
        values = _together(inputs)
        result = function(values[0], values[1])
        for value in values[2:]:
            result = function(result, value)
        return result

    return operator


def _together(inputs: Sequence[Operand]) -> list[Tensor]:
    """Operands of one kind of numbers, on one device: that of the values, not that of lengths."""
    values = [tensor(each) for each in inputs if each is not None]
    device = next((each.device for each in values if each.device.type != "cpu"), values[0].device)
    return [each.to(device) if each.device != device else each for each in values]


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _modulo(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    a, b = _together(inputs)
    return torch.fmod(a, b) if attributes.get("fmod", 0) else torch.remainder(a, b)


def _reduce(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def operator(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
        values = tensor(inputs[0])
        axes = _axes(inputs, attributes)
        if not axes and attributes.get("noop_with_empty_axes", 0):
            return values
        return function(values, axes or list(range(values.dim())), bool(attributes.get("keepdims", 1)))

    return operator


def _product(values: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % values.dim() for axis in axes), reverse=True):
        values = values.prod(axis, keepdim=keep)
    return values


def _cast(inputs: Sequence[Operand], attributes: Attributes) -> Operand:
    kind = attributes["to"]
    if kind not in DTYPES:
        raise NotImplementedError(f"cast to {TensorProto.DataType.Name(kind)}")
    return tensor(inputs[0]).to(DTYPES[kind])


def _cast_like(inputs: Sequence[Operand], _: Attributes) -> Operand:
    return tensor(inputs[0]).to(tensor(inputs[1]).dtype)


def _clip(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values = tensor(inputs[0])
    for place, name, function in ((1, "min", torch.maximum), (2, "max", torch.minimum)):
        limit = inputs[place] if len(inputs) > place else None
        if isinstance(limit, Tensor) and _is_traced():
            values = function(values, tensor(limit, values))
        elif limit is not None or name in attributes:
            number = tensor(limit).item() if limit is not None else attributes[name]
            values = values.clamp(**{name: number})
    return values


def _concat(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    return torch.cat(_together(inputs), attributes["axis"])


def _split(inputs: Sequence[Operand], attributes: Attributes) -> tuple[Tensor, ...]:
    values, axis = tensor(inputs[0]), attributes.get("axis", 0)
    given = attributes.get("split") or (_sizes(inputs[1]) if len(inputs) > 1 else [])
    if given:
        return torch.split(values, list(given), axis)
    return torch.chunk(values, attributes["outputs"], axis)


def _within(end: Any) -> Any:
    """An end of a slice; none for a number that stands for the end of whatever is sliced."""
    return None if not isinstance(end, Tensor) and abs(end) >= _LAST // 2 else end


def _slice(inputs: Sequence[Operand], _: Attributes) -> Tensor:
    values = tensor(inputs[0])
    starts, ends = _sizes(inputs[1]), _sizes(inputs[2])
    axes = _sizes(inputs[3]) if len(inputs) > 3 and inputs[3] is not None else list(range(len(starts)))
    steps = _sizes(inputs[4]) if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == -1:
            # What is counted from one end is counted from the other one then.
            values, start, end, step = values.flip(axis), -1 - start, -1 - end, 1
        index = [slice(None)] * values.dim()
        index[axis] = slice(_within(start), _within(end), step)
        values = values[tuple(index)]
    return values


def _gather(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values, axis = tensor(inputs[0]), attributes.get("axis", 0)
    places = inputs[1]
    if not isinstance(places, Tensor) and np.ndim(places) == 0:  # type: ignore[arg-type]
        return values.select(axis, int(places))  # type: ignore[arg-type]
    axis %= values.dim()
    index = tensor(places, values)
    if isinstance(places, Tensor) or np.any(np.less(places, 0)):  # type: ignore[arg-type]
        index = torch.where(index < 0, index + values.shape[axis], index)
    flat = values.index_select(axis, index.flatten())
    if index.dim() == 1:
        return flat
    return flat.reshape([*values.shape[:axis], *index.shape, *values.shape[axis + 1 :]])


def _reshape(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values, sizes = tensor(inputs[0]), _sizes(inputs[1])
    if not attributes.get("allowzero", 0):
        sizes = [values.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return values.reshape(sizes)


def _flatten(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values, axis = tensor(inputs[0]), attributes.get("axis", 1)
    axis = axis % values.dim() if axis < 0 else axis
    if axis == 0:
        return values.reshape(1, -1)
    return values.flatten(axis).flatten(0, axis - 1) if axis < values.dim() else values.reshape(-1, 1)


def _squeeze(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values, axes = tensor(inputs[0]), _axes(inputs, attributes)
    if not axes:
        return values.squeeze()
    for axis in sorted((axis % values.dim() for axis in axes), reverse=True):
        if not _is_traced() and values.shape[axis] != 1:
            raise ValueError(f"axis {axis} of {list(values.shape)} has more than one place")
        values = values.select(axis, 0)  # the exporter makes control flow of a squeeze of sizes it can't tell
    return values


def _unsqueeze(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values, axes = tensor(inputs[0]), _axes(inputs, attributes)
    rank = values.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        values = values.unsqueeze(axis)
    return values


def _transpose(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values = tensor(inputs[0])
    return values.permute(attributes.get("perm", list(reversed(range(values.dim())))))


def _shape(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    sizes: Tensor = torch._shape_as_tensor(tensor(inputs[0]))
    first, end = attributes.get("start", 0), attributes.get("end")
    return sizes if first == 0 and end is None else sizes[first:end]


def _constant_of_shape(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    value = torch.from_numpy(np.array(attributes.get("value", np.zeros(1, np.float32))))
    return torch.full(_sizes(inputs[0]), value.item(), dtype=value.dtype)


def _expand(inputs: Sequence[Operand], _: Attributes) -> Tensor:
    values = tensor(inputs[0])
    ones = torch.ones(_sizes(inputs[1]), dtype=values.dtype, device=values.device)
    return values & ones if values.dtype == torch.bool else values * ones  # either may be the wider one


def _range(inputs: Sequence[Operand], _: Attributes) -> Tensor:
    start, end, step = (tensor(each) for each in inputs)
    if _is_traced():
        return torch.arange(start, end, step)  # type: ignore[call-overload, no-any-return]
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def _where(inputs: Sequence[Operand], _: Attributes) -> Tensor:
    condition, chosen, other = _together(inputs)
    return torch.where(condition, chosen, other)


def _pad(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values, amounts = tensor(inputs[0]), _sizes(inputs[1])
    fill = float(tensor(inputs[2])) if len(inputs) > 2 and inputs[2] is not None else 0.0
    if len(inputs) > 3 and inputs[3] is not None:
        axes, given = _sizes(inputs[3]), amounts
        amounts = [0] * 2 * values.dim()
        for place, axis in enumerate(axes):
            amounts[axis % values.dim()] = given[place]
            amounts[values.dim() + axis % values.dim()] = given[len(axes) + place]
    mode = attributes.get("mode", "constant")
    return pad(values, amounts, "replicate" if mode == "edge" else mode, fill)


def _average_pool(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values, kernel, strides, pads, tails = _pooled(inputs, attributes)
    if any(step != 1 for step in attributes.get("dilations", [])):
        raise NotImplementedError("an average of dilated windows")
    pool = F.avg_pool1d if len(kernel) == 1 else F.avg_pool2d
    if not _is_some([*pads, *tails]):
        return pool(values, kernel, strides)
    padded = pad(values, around(pads, tails))
    counts = float(attributes.get("count_include_pad", 0))
    counted = pad(torch.ones_like(values[:1, :1]), around(pads), fill=counts)
    counted = pad(counted, around([0] * len(pads), tails))
    averages: Tensor = pool(padded, kernel, strides) / pool(counted, kernel, strides)
    return _begun_within(averages, values, pads, strides) if any(tails) else averages


def _max_pool(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values, kernel, strides, pads, tails = _pooled(inputs, attributes)
    is_padded = _is_some([*pads, *tails])
    padded = pad(values, around(pads, tails), fill=torch.finfo(values.dtype).min) if is_padded else values
    pool = F.max_pool1d if len(kernel) == 1 else F.max_pool2d
    largest = pool(padded, kernel, strides, 0, attributes.get("dilations", [1] * len(kernel)))
    return _begun_within(largest, values, pads, strides) if any(tails) else largest


def _is_some(amounts: Sequence[Any]) -> bool:
    """Whether any of these amounts is more than 0, or may be at another length."""
    return any(isinstance(each, Tensor) or each > 0 for each in amounts)


def _begun_within(pooled: Tensor, values: Tensor, pads: Sequence[Any], strides: Sequence[int]) -> Tensor:
    """Without windows that begin behind the values, as a last one may that need not be whole."""
    for axis, (before, stride) in enumerate(zip(pads[: len(strides)], strides, strict=True), 2):
        windows = (values.shape[axis] + before - 1) // stride + 1
        pooled = pooled[(slice(None),) * axis + (slice(windows),)]
    return pooled


def _pooled(
    inputs: Sequence[Operand], attributes: Attributes
) -> tuple[Tensor, list[int], list[int], list[Any], list[int]]:
    """Values, kernel, strides, padding, and what a last window that is not whole lacks at most."""
    values, kernel = tensor(inputs[0]), list(attributes["kernel_shape"])
    strides = list(attributes.get("strides", [1] * len(kernel)))
    tails = [stride - 1 for stride in strides] if attributes.get("ceil_mode", 0) else [0] * len(kernel)
    return values, kernel, strides, window_pads(attributes, window_sizes(values)), tails


def _resize(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    """Repeats values a whole number of times along the axes behind the channels."""
    values, given = tensor(inputs[0]), inputs[2] if len(inputs) > 2 else None
    scales = [] if given is None else [float(each) for each in tensor(given).flatten()]
    whole = all(scale.is_integer() for scale in scales) and scales[:2] == [1.0, 1.0]
    if attributes.get("mode", "nearest") != "nearest" or not whole:
        raise NotImplementedError("resized otherwise than by repeating values")
    return F.interpolate(values, scale_factor=scales[2:], mode="nearest")


def _softmax(function: Callable[[Tensor, int], Tensor]) -> Operator:
    def operator(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
        values = tensor(inputs[0])
        if attributes["opset"] >= 13:
            return function(values, attributes.get("axis", -1))
        axis = attributes.get("axis", 1) % values.dim()
        return function(values.flatten(axis), axis).reshape(values.shape)  # all axes from this one on

    return operator


def _layer_normalization(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values = tensor(inputs[0])
    axes = list(range(attributes.get("axis", -1) % values.dim(), values.dim()))
    centred = values - values.mean(axes, keepdim=True)
    variance = (centred * centred).mean(axes, keepdim=True)
    result: Tensor = centred / (variance + attributes.get("epsilon", 1e-5)).sqrt() * tensor(inputs[1])
    return result + tensor(inputs[2]) if len(inputs) > 2 else result


def _rms_normalization(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values = tensor(inputs[0])
    axes = list(range(attributes.get("axis", -1) % values.dim(), values.dim()))
    power = (values * values).mean(axes, keepdim=True)
    result: Tensor = values / (power + attributes.get("epsilon", 1e-5)).sqrt() * tensor(inputs[1], values)
    return result


def _lp_normalization(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values, p, axis = tensor(inputs[0]), attributes.get("p", 2), attributes.get("axis", -1)
    return F.normalize(values, p=p, dim=axis, eps=_LEAST_NORM)


def _group_normalization(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values, weight, bias = (tensor(each) for each in inputs)
    groups, channels = attributes["num_groups"], values.shape[1]
    if attributes["opset"] < 21:  # one of a group
        weight, bias = (each.repeat_interleave(channels // groups) for each in (weight, bias))
    return F.group_norm(values, groups, weight, bias, attributes.get("epsilon", 1e-5))


def _instance_normalization(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    values, weight, bias = (tensor(each) for each in inputs)
    return F.instance_norm(values, weight=weight, bias=bias, eps=attributes.get("epsilon", 1e-5))


def _attention(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    """Of queries, keys and values ``[B, heads, T, dim]``, with a mask or without."""
    query, key, values = (tensor(each) for each in inputs[:3])
    if query.dim() != 4 or key.shape[1] != query.shape[1] or any(each is not None for each in inputs[4:]):
        raise NotImplementedError("other than of as many heads of queries as of keys, without a past")
    if attributes.get("softcap", 0.0):
        raise NotImplementedError("with softcap")
    scores = query @ key.transpose(2, 3) * attributes.get("scale", query.shape[3] ** -0.5)
    if len(inputs) > 3 and inputs[3] is not None:
        mask = tensor(inputs[3], scores)
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    if attributes.get("is_causal", 0):
        scores = scores.masked_fill(torch.ones_like(scores).tril() == 0, -torch.inf)
    result: Tensor = scores.softmax(3) @ values
    return result


def _selu(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    alpha, gamma = attributes.get("alpha", 1.6732632), attributes.get("gamma", 1.0507010)
    result: Tensor = gamma * F.elu(tensor(inputs[0]), alpha)
    return result


def _triangle(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    diagonal = int(tensor(inputs[1])) if len(inputs) > 1 and inputs[1] is not None else 0
    part = torch.triu if attributes.get("upper", 1) else torch.tril
    return part(tensor(inputs[0]), diagonal)


def _gemm(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    a, b, *bias = (tensor(each) for each in inputs)
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    product: Tensor = attributes.get("alpha", 1.0) * (a @ b)
    return product + attributes.get("beta", 1.0) * bias[0] if bias else product


def _cumulated(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    if attributes.get("exclusive", 0) or attributes.get("reverse", 0):
        raise NotImplementedError("exclusive or reverse")
    return tensor(inputs[0]).cumsum(int(tensor(inputs[1])))


def _prelu(inputs: Sequence[Operand], _: Attributes) -> Tensor:
    values, slope = _together(inputs)
    # Not by differences of Relu, of which OpenVINO (2026.4) makes slopes of axis 1, whichever they are of.
    return torch.where(values < 0, slope * values, values)


def _hard_sigmoid(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    scaled: Tensor = attributes.get("alpha", 0.2) * tensor(inputs[0]) + attributes.get("beta", 0.5)
    return scaled.clamp(0, 1)


def _gelu(inputs: Sequence[Operand], attributes: Attributes) -> Tensor:
    return F.gelu(tensor(inputs[0]), approximate=attributes.get("approximate", "none"))


def _spatial(values: Tensor) -> list[int]:
    return list(range(2, values.dim()))


OPERATORS: dict[str, Operator] = {
    "Abs": _each(torch.abs),
    "Add": _pair(torch.add),
    "And": _pair(torch.logical_and),
    "Attention": _attention,
    "AveragePool": _average_pool,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": _each(torch.ceil),
    "Celu": lambda inputs, attributes: F.celu(inputs[0], attributes.get("alpha", 1.0)),
    "Clip": _clip,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Cos": _each(torch.cos),
    "CumSum": _cumulated,
    "Div": _pair(_divide),
    "Dropout": _each(lambda values: values),
    "Einsum": lambda inputs, attributes: torch.einsum(attributes["equation"], *_together(inputs)),
    "Elu": lambda inputs, attributes: F.elu(inputs[0], attributes.get("alpha", 1.0)),
    "Equal": _pair(torch.eq),
    "Erf": _each(torch.erf),
    "Exp": _each(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _each(torch.floor),
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _each(lambda values: values.mean(_spatial(values), keepdim=True)),
    "GlobalMaxPool": _each(lambda values: values.amax(_spatial(values), keepdim=True)),
    "Greater": _pair(torch.gt),
    "GreaterOrEqual": _pair(torch.ge),
    "GroupNormalization": _group_normalization,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _each(F.hardswish),
    "Identity": lambda inputs, _: inputs[0],
    "IsInf": _each(torch.isinf),
    "IsNaN": _each(torch.isnan),
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": lambda inputs, attributes: F.leaky_relu(inputs[0], attributes.get("alpha", 0.01)),
    "Less": _pair(torch.lt),
    "LessOrEqual": _pair(torch.le),
    "Log": _each(torch.log),
    "LogSoftmax": _softmax(torch.log_softmax),
    "LpNormalization": _lp_normalization,
    "MatMul": _pair(torch.matmul),
    "Max": _pair(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _pair(torch.minimum),
    "Mish": _each(F.mish),
    "Mod": _modulo,
    "Mul": _pair(torch.mul),
    "Neg": _each(torch.neg),
    "Not": _each(torch.logical_not),
    "Or": _pair(torch.logical_or),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _pair(torch.pow),
    "RMSNormalization": _rms_normalization,
    "Range": _range,
    "Reciprocal": _each(torch.reciprocal),
    "ReduceL1": _reduce(lambda values, axes, keep: values.abs().sum(axes, keepdim=keep)),
    "ReduceL2": _reduce(lambda values, axes, keep: (values * values).sum(axes, keepdim=keep).sqrt()),
    "ReduceLogSumExp": _reduce(lambda values, axes, keep: values.logsumexp(axes, keepdim=keep)),
    "ReduceMax": _reduce(lambda values, axes, keep: values.amax(axes, keepdim=keep)),
    "ReduceMean": _reduce(lambda values, axes, keep: values.mean(axes, keepdim=keep)),
    "ReduceMin": _reduce(lambda values, axes, keep: values.amin(axes, keepdim=keep)),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(lambda values, axes, keep: values.sum(axes, keepdim=keep)),
    "ReduceSumSquare": _reduce(lambda values, axes, keep: (values * values).sum(axes, keepdim=keep)),
    "Relu": _each(torch.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Round": _each(torch.round),
    "Selu": _selu,
    "Shape": _shape,
    "Sigmoid": _each(torch.sigmoid),
    "Sign": _each(torch.sign),
    "Sin": _each(torch.sin),
    "Size": _each(lambda values: torch._shape_as_tensor(values).prod()),
    "Slice": _slice,
    "Softmax": _softmax(torch.softmax),
    "Softplus": _each(F.softplus),
    "Softsign": _each(F.softsign),
    "Split": _split,
    "Sqrt": _each(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _pair(torch.sub),
    "Sum": _pair(torch.add),
    "Swish": lambda inputs, attributes: inputs[0] * (attributes.get("alpha", 1.0) * inputs[0]).sigmoid(),
    "Tanh": _each(torch.tanh),
    "ThresholdedRelu": lambda inputs, attributes: inputs[0] * (inputs[0] > attributes.get("alpha", 1.0)),
    "Tile": lambda inputs, _: tensor(inputs[0]).repeat(_sizes(inputs[1])),
    "Transpose": _transpose,
    "Trilu": _triangle,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
    "Xor": _pair(torch.logical_xor),
}
"""What computes a node, by the name of its operator; layers with stored weights are modules of PyTorch."""
