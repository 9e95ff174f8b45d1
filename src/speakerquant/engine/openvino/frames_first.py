"""Values between matrix products with channels last, as products read and make them.

A convolution that is computed as a product stands between two exchanges of time and channels, which take a
fifth of its time. The one behind it is moved down past whatever can as well be computed with channels last.
Where it meets the one before the next product, both are left out.
"""

import numpy as np
from openvino import Model, Node, Output
from openvino import opset13 as ops

from speakerquant.engine.openvino.openvino_graph import (
    BY_ELEMENTS,
    insert_behind,
    is_of_kind,
    read_instead,
    stop,
    stop_before,
)

_EXCHANGE = (0, 2, 1)
_LINEAR = ("Divide", "Multiply", "Negative", "Subtract")
_AXIS_AS_ATTRIBUTE = ("Concat", "Softmax")
_AXES_AS_INPUT = {
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Split", "VariadicSplit"), 1),
    "Gather": 2,
    "Slice": 4,
}
"""By operation, which of its inputs names axes; the first is what it computes from."""


def exchanged(values: Output) -> Output:
    """Values ``[B, C, T]`` as ``[B, T, C]``, or the other way."""
    return ops.transpose(values, ops.constant(np.array(_EXCHANGE, np.int64))).output(0)


def with_frames_first(model: Model) -> Model:
    """The network without exchanges of time and channels that undo one another.

    Where each of several readers would need one of its own, it stays as it is.
    """
    changed = model.clone()
    _put_frames_first(changed)
    return changed if _num_exchanges(changed) < _num_exchanges(model) else model


def _num_exchanges(model: Model) -> int:
    return sum(is_of_kind(node, "Transpose") for node in model.get_ordered_ops())


def _put_frames_first(model: Model) -> None:
    for node in model.get_ordered_ops():
        if is_of_kind(node, "Transpose"):
            _leave_out_with_the_one_before(node)
        elif is_of_kind(node, "ShapeOf"):
            _look_at_shape_before_exchange(node)
        elif is_of_kind(node, "BatchNormInference"):
            _normalise_before_exchange(node)
        elif _may_be_exchanged(node):
            _exchange_behind(node)
    for node in model.get_ordered_ops():
        if is_of_kind(node, "FakeQuantize") and _before_exchange(node.input_value(0)):
            # It would be moved up past the exchange, and take what is done by channels for the same in all.
            stop_before(node)
    model.validate_nodes_and_infer_types()


def _leave_out_with_the_one_before(node: Node) -> None:
    exchange = _before_exchange(node.output(0))
    source = _before_exchange(exchange) if exchange else None
    if source:
        read_instead(node.output(0), source)


def _look_at_shape_before_exchange(node: Node) -> None:
    if before := _before_exchange(node.input_value(0)):
        node.input(0).replace_source_output(before)
        order, axis = ops.constant(np.array(_EXCHANGE, np.int64)), ops.constant(np.int64(0))
        insert_behind(node.output(0), lambda shape: ops.gather(shape, order, axis).output(0))


def _normalise_before_exchange(node: Node) -> None:
    """Compute a normalisation, which takes channels for the second axis, as a product and a sum."""
    values, *parameters = node.input_values()
    before = _before_exchange(values)
    if before and all(map(_is_constant, parameters)):
        weight, bias, mean, variance = (each.get_node().data.astype(np.float64) for each in parameters)
        factor = weight / np.sqrt(variance + node.get_attributes()["epsilon"])
        addend = bias - mean * factor
        scaled = ops.multiply(_kept_from_weights(before), ops.constant(factor.astype(np.float32)))
        normalised = ops.add(scaled, ops.constant(addend.astype(np.float32))).output(0)
        read_instead(node.output(0), exchanged(normalised))


def _exchange_behind(node: Node) -> None:
    """Compute an operation with channels last, and exchange what it makes instead of what it reads."""
    axes_input = _AXES_AS_INPUT.get(node.get_type_name())
    inputs = node.inputs()[: None if axes_input is None else 1]
    values = [each.get_source_output() for each in inputs]
    if not any(map(_before_exchange, values)) or not all(map(_is_exchanged_for_nothing, values)):
        return
    by_constant = is_of_kind(node, *_LINEAR) and (len(values) == 1 or any(map(_is_constant, values)))
    for each, value in zip(inputs, values, strict=True):
        exchanged_value = _exchanged_for_nothing(value)
        each.replace_source_output(_kept_from_weights(exchanged_value) if by_constant else exchanged_value)
    if is_of_kind(node, *_AXIS_AS_ATTRIBUTE):
        node.set_attribute("axis", _EXCHANGE[node.get_attributes()["axis"]])
    elif axes_input is not None:
        axes = node.input_value(axes_input).get_node().data
        exchanged_axes = np.array(_EXCHANGE, axes.dtype)[axes]
        node.input(axes_input).replace_source_output(ops.constant(exchanged_axes).output(0))
    node.validate_and_infer_types()
    for output in node.outputs():
        insert_behind(output, exchanged)


def _may_be_exchanged(node: Node) -> bool:
    """Whether an operation may as well be computed with channels last."""
    axes_input = _AXES_AS_INPUT.get(node.get_type_name())
    if axes_input is None:
        return is_of_kind(node, *BY_ELEMENTS, *_AXIS_AS_ATTRIBUTE)
    keeps_axes = all(len(each.get_partial_shape()) == len(_EXCHANGE) for each in node.outputs())
    names_axes = node.get_input_size() > axes_input
    return keeps_axes and names_axes and _is_constant(node.input_value(axes_input))


def _before_exchange(values: Output) -> Output | None:
    """What values were before time and channels were exchanged; none if they were not."""
    node = values.get_node()
    if not is_of_kind(node, "Transpose"):
        return None
    order = node.input_value(1).get_node()
    is_exchange = is_of_kind(order, "Constant") and tuple(order.data) == _EXCHANGE
    return node.input_value(0) if is_exchange else None


def _kept_from_weights(values: Output) -> Output:
    """What a product makes, so that what follows is not multiplied into its weights, which then expand.

    A factor of -1 is multiplied wrongly, and not always (OpenVINO 2026.4).
    """
    return stop(values) if is_of_kind(values.get_node(), "MatMul") else values


def _is_exchanged_for_nothing(values: Output) -> bool:
    """Whether exchanging time and channels of values moves none of them at run time."""
    if _before_exchange(values) or _is_one_constant(values):
        return True
    shape = values.get_partial_shape()
    return len(shape) == len(_EXCHANGE) and (_is_constant(values) or shape[2] == 1)


def _exchanged_for_nothing(values: Output) -> Output:
    if _is_one_constant(values):
        return values
    if _is_constant(values):
        return ops.constant(np.ascontiguousarray(values.get_node().data.transpose(_EXCHANGE))).output(0)
    return _before_exchange(values) or exchanged(values)


def _is_one_constant(values: Output) -> bool:
    return _is_constant(values) and values.get_node().data.size == 1


def _is_constant(values: Output) -> bool:
    return is_of_kind(values.get_node(), "Constant")
