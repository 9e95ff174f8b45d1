"""The network of an ONNX file: its nodes in their order, those with weights as layers of PyTorch."""

import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from speakerquant.architectures.interface import Interface
from speakerquant.architectures.layers import quantizable_layers, unreached_layers
from speakerquant.architectures.onnx_file.config import OnnxFileConfig
from speakerquant.architectures.onnx_file.layer_names import cleaned, layer_names, unit_names
from speakerquant.architectures.onnx_file.operators import OPERATORS, Operand, pad, tensor
from speakerquant.architectures.onnx_file.reading import (
    Node,
    OnnxGraph,
    constant_value,
    metadata_of,
    read_graph,
    read_model,
)
from speakerquant.architectures.onnx_file.weight_layers import (
    BatchNormalization,
    padding_before,
    weight_layer,
    with_pads,
)
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.architectures.units import Granularity, Units, enclosing
from speakerquant.errors import UserError, first_line

log = logging.getLogger(__name__)

_TAKEN = re.compile(r"config|layout|training|normalisations|constant\d+")
_TIME = re.compile(r"t|.*(time|frame|len|seq).*", re.IGNORECASE)
"""What files call the axis of time."""
_LENGTHS = (200, 251)
"""Frames at which a network is tried out: all must take both, and one of fixed length does not."""


@dataclass(frozen=True)
class Step:
    """A node as it runs.

    Attributes:
        node: The node.
        module: Name of the layer that computes it; None if an operator does.
        done: Tensors that no later step reads.
    """

    node: Node
    module: str | None
    done: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """How a file takes features: whether time is the last axis, ``[B, bands, T]``, and how many bands."""

    time_last: bool
    bands: int

    def __str__(self) -> str:
        return f"[batch, {'bands, time' if self.time_last else 'time, bands'}]"

    @property
    def time_axis(self) -> int:
        """The axis of time."""
        return 2 if self.time_last else 1

    def arranged(self, features: Tensor) -> Tensor:
        """Features ``[B, bands, T]`` in this layout."""
        return features if self.time_last else features.transpose(1, 2)


class StoredTable(nn.Module):
    """Stored values with more than one axis that no layer holds, such as those of positions."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values)


class OnnxFileNetwork(SpeakerNetwork):
    """A network that computes what an ONNX file computes.

    Convolutions, linear layers and batch normalisations with stored weights are modules, at the places that
    the file's names tell, and so are tables; other stored values are buffers. Arithmetic on lengths stays
    arithmetic, so that the network can be exported again for any length.

    Attributes:
        layout: How the file takes features.

    Raises:
        UserError: the file is not there, is another one than the digest says, or cannot be converted.
    """

    def __init__(self, config: OnnxFileConfig) -> None:
        super().__init__(config)
        path = Path(config.file)
        if not path.is_file():
            raise UserError(f"{path}: no such ONNX file")
        model, digest = read_model(path)
        if config.digest not in ("", digest):
            raise UserError(f"{path} has changed since the checkpoint was made from it")
        graph = read_graph(model)
        self._input, self._output = graph.input, graph.output
        self._settings: dict[str, Operand] = {}
        self._place_of: dict[str, str] = {}
        self._steps = self._converted(graph)
        self._metadata = metadata_of(model)
        self.eval()
        self.layout, self._embedding_dim = self._found_layout(graph, config.n_mels)
        self.config = replace(config, digest=digest, n_mels=self.layout.bands)
        self._min_frames = self._last_that_runs(_LENGTHS[0], 0)

    @property
    def embedding_dim(self) -> int:
        return self._embedding_dim

    @property
    def min_frames(self) -> int:
        return self._min_frames

    def most_frames(self, wanted: int) -> int:
        if wanted <= _LENGTHS[-1] or self._runs(self.layout, 1, wanted):
            return wanted
        return self._last_that_runs(_LENGTHS[-1], wanted)

    def units(self, granularity: Granularity = Granularity.block) -> Units:
        """Modules as the file's names tell them, or runs of these, 5 to 12; without names, runs of layers."""
        if granularity is Granularity.layer:
            return super().units(granularity)
        units: dict[str, tuple[str, ...]] = {}
        sizes = {name: layer.weight.numel() for name, layer in quantizable_layers(self).items()}
        for layer, unit in unit_names(sizes).items():
            units[unit] = (*units.get(unit, ()), layer)
        return Units(units, unreached_layers(self))

    @property
    def interface(self) -> Interface:
        return Interface(self._input, self._output, self.layout.time_last, self._metadata)

    def forward(self, features: Tensor) -> Tensor:
        return self._computed(self.layout.arranged(features))

    def _computed(self, features: Tensor) -> Tensor:
        values: dict[str, Any] = {self._input: features, "": None, **self._settings}
        values.update((name, attrgetter(place)(self)) for name, place in self._place_of.items())
        for step in self._steps:
            try:
                results = self._results(step, [values.get(name) for name in step.node.inputs])
            except Exception as error:
                error.add_note(str(step.node))
                if step.module is None and not isinstance(error, NotImplementedError):
                    error.add_note("; as exported it may fix a length or a batch: try dynamo=True")
                raise
            values.update(zip(step.node.outputs, results, strict=False))
            for name in step.done:
                values.pop(name, None)  # outputs that nobody reads, such as a mask, are not computed
        embeddings: Tensor = values[self._output]
        return embeddings

    def _results(self, step: Step, operands: Sequence[Operand]) -> tuple[Operand, ...]:
        if step.module is None:
            return _outputs(step.node, operands)
        values = tensor(operands[0])
        if amounts := padding_before(step.node, values):
            values = pad(values, amounts)
        return (self.get_submodule(step.module)(values),)

    def _converted(self, graph: OnnxGraph) -> tuple[Step, ...]:
        """Make a module of each layer, and compute what does not depend on the features."""
        nodes, constants = _without_constants(graph)
        stored = {name: tensor(value) for name, value in constants.items() if value is not None}
        nodes = [with_pads(node, stored) for node in nodes]
        layers = [weight_layer(node, stored) for node in nodes]
        names = _module_names(nodes, layers)
        for node, layer, name in zip(nodes, layers, names, strict=True):
            if layer is not None and name is not None:
                _put(self, name, layer)
            elif node.operator not in OPERATORS:
                raise UserError(f"{node}: its weights are computed, not stored, which cannot be converted")
        for node, layer in zip(nodes, layers, strict=True):
            if layer is None:  # behind all layers, whose names and order masks know
                self._keep({each: constants[each] for each in node.inputs if constants.get(each) is not None})
        ends = _last_readers(nodes, {*constants, graph.output, ""})
        return tuple(
            Step(node, name, ends.get(place, ()))
            for place, (node, name) in enumerate(zip(nodes, names, strict=True))
        )

    def _keep(self, constants: Mapping[str, Operand]) -> None:
        """Keep stored values; tables, which masks do not reach, under their names in the file."""
        for name, value in constants.items():
            if not isinstance(value, Tensor):
                self._settings[name] = value
            elif name not in self._place_of:
                place = f"constant{len(self._place_of) + 1}"
                if sum(size > 1 for size in value.shape) > 1:
                    table = self._free_place(name)
                    _put(self, table, StoredTable(value))
                    place = f"{table}.values"
                else:
                    self.register_buffer(place, value)
                self._place_of[name] = place

    def _free_place(self, tensor_name: str) -> str:
        """The tensor's name as that of a module, in one part where a layer is what it would lie in."""
        place = _free(".".join(cleaned(part) for part in tensor_name.split(".")))
        modules, flat = dict(self.named_modules()), place.replace(".", "_")
        layers = {name for name, module in modules.items() if type(module) is not nn.Module}
        others = (f"{flat}_{number}" for number in itertools.count(1))
        return next(
            each
            for each in itertools.chain((place, flat), others)
            if each not in modules and layers.isdisjoint(enclosing(each))
        )

    def _found_layout(self, graph: OnnxGraph, n_mels: int) -> tuple[Layout, int]:
        """The layout in which the network runs at several lengths and batches, and the embedding's length.

        Raises:
            UserError: there is none, or no embedding comes out.
        """
        reasons: list[UserError] = []
        possible: list[tuple[Layout, int]] = []
        for layout in _layouts(graph, n_mels):
            try:
                first, second = (self._tried(layout, 2, frames).shape for frames in _LENGTHS)
            except UserError as error:
                reasons.append(error)
                continue
            if first == second and len(first) == 2 and first[0] == 2:
                possible.append((layout, first[1]))
            else:
                reasons.insert(0, _no_embedding(graph.output, first, 2))
        if not possible:
            raise self._what_is_fixed(graph, n_mels) or reasons[0]
        if len(possible) > 1 and _signs_of_time(graph, 1) == _signs_of_time(graph, 2):
            log.warning(
                "%s: its input %s may be %s or %s, which it does not say, and is taken for the first; if "
                "that is wrong, export it with the number of bands, or with the axis of time named so",
                *(self.config.file, graph.input, *(layout for layout, _ in possible)),
            )
        layout, dim = possible[0]
        self._check_alone(layout, graph.output, dim)
        return layout, dim

    def _check_alone(self, layout: Layout, output: str, dim: int) -> None:
        """Refuse a network that drops the axis of a single recording, as ``squeeze`` without an axis does."""
        alone = self._tried(layout, 1, _LENGTHS[0]).shape
        if alone != (1, dim):
            raise _no_embedding(output, alone, 1)

    def _what_is_fixed(self, graph: OnnxGraph, n_mels: int) -> UserError | None:
        """What to say if the nodes allow one batch or one length only."""
        instead = "or, where the exporter fixed it although you gave dynamic_axes, export with dynamo=True"
        advice = f"export the network with dynamic_axes for batch and time, {instead}"
        for layout in _layouts(graph, n_mels):
            axis = layout.time_axis
            runs = [self._runs(layout, 1, frames) for frames in _LENGTHS]
            if all(runs):
                return UserError(f"axis 0 (batch) of its input is fixed to 1; {advice}")
            frames = graph.sizes[axis]
            if frames and any(self._runs(layout, batch, frames) for batch in (1, 2)):
                return UserError(f"axis {axis} (time) of its input is fixed to {frames}; {advice}")
            if any(runs):
                some, other = _LENGTHS if runs[0] else reversed(_LENGTHS)
                return UserError(
                    f"it takes {some} frames and not {other}; give a network of any length, {instead}"
                )
        return None

    def _last_that_runs(self, runs: int, fails: int) -> int:
        """The last number of frames on the way from one that runs, with finite results, to one that fails."""
        while abs(fails - runs) > 1:
            middle = (fails + runs) // 2
            if self._runs(self.layout, 1, middle):
                runs = middle
            else:
                fails = middle
        return runs

    def _runs(self, layout: Layout, batch: int, frames: int) -> bool:
        try:
            embeddings = self._tried(layout, batch, frames)
        except UserError:
            return False
        return embeddings.dim() == 2 and len(embeddings) == batch and bool(embeddings.isfinite().all())

    def _tried(self, layout: Layout, batch: int, frames: int) -> Tensor:
        noise = torch.randn(batch, layout.bands, frames, generator=torch.Generator().manual_seed(0))
        features = noise.to(next(self.parameters()).device)
        try:
            with torch.inference_mode():
                return self._computed(layout.arranged(features))
        except Exception as error:  # whatever operators raise for operands that they do not take
            node, *advice = getattr(error, "__notes__", ["its nodes"])
            raise UserError(f"{node} cannot be run ({first_line(error)[:160]}){''.join(advice)}") from None


def _no_embedding(output: str, shape: Sequence[int], batch: int) -> UserError:
    recordings = f"{batch} recordings" if batch > 1 else "one recording"
    return UserError(
        f"its output {output} is {list(shape)} for {recordings} of {_LENGTHS[0]} frames; "
        "give a network whose output is [batch, embedding]"
    )


def _layouts(graph: OnnxGraph, n_mels: int) -> list[Layout]:
    """Both layouts, the likelier one first.

    That is the one whose time is called so, then whose time is open, then that with the front end's bands.
    """

    def unlikely(layout: Layout) -> tuple[bool, ...]:
        return *(not sign for sign in _signs_of_time(graph, layout.time_axis)), layout.bands != n_mels

    _, second, third = graph.sizes
    return sorted([Layout(False, third or n_mels), Layout(True, second or n_mels)], key=unlikely)


def _signs_of_time(graph: OnnxGraph, axis: int) -> tuple[bool, bool]:
    """Whether the file calls an axis as time is called, and whether it leaves its length open."""
    return bool(_TIME.fullmatch(graph.axes[axis])), graph.sizes[axis] is None


def _without_constants(graph: OnnxGraph) -> tuple[list[Node], dict[str, Operand]]:
    """The nodes that the output and the features lie between, and the values of all others."""
    constants = {name: _operand(value) for name, value in graph.constants.items()}
    running: list[Node] = []
    for node in graph.nodes:
        if node.operator == "Constant":
            constants[node.outputs[0]] = _operand(constant_value(node))
        elif node.operator in OPERATORS and all(name in constants or not name for name in node.inputs):
            try:
                results = _outputs(node, [constants.get(name) for name in node.inputs])
            except Exception as error:  # as above
                raise UserError(f"{node} cannot be run ({first_line(error)[:160]})") from None
            folded = [_operand(each.numpy()) if isinstance(each, Tensor) else each for each in results]
            constants.update(zip(node.outputs, folded, strict=False))
        else:
            running.append(node)
    needed, wanted = [], {graph.output}
    for node in reversed(running):
        if wanted.intersection(node.outputs):
            needed.append(node)
            wanted.update(node.inputs)
    return needed[::-1], constants


def _outputs(node: Node, operands: Sequence[Operand]) -> tuple[Operand, ...]:
    result = OPERATORS[node.operator](operands, node.attributes)
    return result if isinstance(result, tuple) else (result,)


def _module_names(nodes: Sequence[Node], layers: Sequence[nn.Module | None]) -> list[str | None]:
    """The name of each layer's module; normalisations, which masks do not name, are numbered."""
    weighted = [
        node
        for node, layer in zip(nodes, layers, strict=True)
        if layer is not None and not isinstance(layer, BatchNormalization)
    ]
    if not weighted:
        raise UserError("it has no convolution and no linear layer with stored weights: nothing to quantize")
    names, normalisations = iter(layer_names(weighted)), 0
    result: list[str | None] = []
    for layer in layers:
        if isinstance(layer, BatchNormalization):
            normalisations += 1
            result.append(f"normalisations.{normalisations}")
        else:
            result.append(None if layer is None else _free(next(names)))
    return result


def _free(name: str) -> str:
    """The name, with an underscore behind parts of it that are attributes of the network or of any module."""
    first, *others = name.split(".")
    is_taken = hasattr(OnnxFileNetwork, first) or _TAKEN.fullmatch(first)
    free = (f"{each}_" if hasattr(nn.Module, each) else each for each in others)
    return ".".join([f"{first}_" if is_taken else first, *free])


def _last_readers(nodes: Sequence[Node], kept: set[str]) -> dict[int, tuple[str, ...]]:
    """By the place of a node, the tensors that are of no use after it."""
    last = {name: place for place, node in enumerate(nodes) for name in (*node.outputs, *node.inputs)}
    ends: dict[int, tuple[str, ...]] = {}
    for name, place in last.items():
        if name not in kept:
            ends[place] = (*ends.get(place, ()), name)
    return ends


def _put(root: nn.Module, name: str, layer: nn.Module) -> None:
    """Make a module known by its dotted name, in plain modules made for the purpose."""
    *outer, last = name.split(".")
    for each in outer:
        if not hasattr(root, each):
            root.add_module(each, nn.Module())
        root = getattr(root, each)
    root.add_module(last, layer)


def _operand(value: Any) -> Operand:
    """Tensors of floating-point values as such; integers and single values, which are settings, as arrays."""
    return torch.from_numpy(np.array(value)) if value.dtype.kind == "f" and value.ndim else np.array(value)
