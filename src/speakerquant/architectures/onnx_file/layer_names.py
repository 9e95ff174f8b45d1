"""Names for the layers of an ONNX graph, and the units that they make up, from the names in the file."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from speakerquant.architectures.onnx_file.reading import Node
from speakerquant.architectures.units import enclosing

_FEWEST, _MOST = 5, 12
_RUNS = 8
_WEIGHT = ".weight"


def layer_names(nodes: Sequence[Node]) -> list[str]:
    """Names by which the modules of these layers' nodes are known, such as ``layer1.0.conv1``.

    A node's name tells the module's path in the files of PyTorch, ``/layer1/layer1.0/conv1/Conv``; where it
    does not, its weight's name may, ``layer1.0.conv1.weight``, or what the newer exporter writes beside it,
    or a path as TensorFlow's, ``network/conv1d/Conv2D``. What all have in front is left out. A layer without
    any takes its node's name.
    """
    paths = [_path(node) for node in nodes]
    known = [path for path in paths if path]
    shared = 0
    while known and all(len(path) > shared + 1 and path[shared] == known[0][shared] for path in known):
        shared += 1
    names = [
        ".".join(path[shared:]) if path else cleaned(node.name)
        for node, path in zip(nodes, paths, strict=True)
    ]
    outer = {module for name in names for module in enclosing(name)[:-1]}
    names = [
        f"{name}.{node.operator.lower()}" if name in outer else name
        for node, name in zip(nodes, names, strict=True)
    ]
    unique: list[str] = []
    for name in names:
        again = (f"{name}_{number}" for number in itertools.count(1))
        others = {*unique, *names, *outer}
        unique.append(next(each for each in again if each not in others) if name in unique else name)
    return unique


def unit_names(layers: Mapping[str, int]) -> dict[str, str]:
    """The unit of each layer: the module that it lies in, at the depth that gives 5 to 12 of them.

    Where the outermost modules are fewer than 5, those with the most weights are divided into the modules in
    them, or into runs of these, such as ``encoder.part_0-3``, where they would make more than 12. Where the
    outermost ones are more, as without names, units are runs of layers.

    Args:
        layers: Number of weights by the layer's name, in network order.
    """
    units = {layer: layer.split(".")[0] for layer in layers}
    if len(set(units.values())) > _MOST:
        runs = enumerate(_runs(list(layers)), 1)
        return {layer: f"part{number}" for number, run in runs for layer in run}
    while len(set(units.values())) < _FEWEST:
        ways = (_divided(units, unit) for unit in _by_size(units, layers))
        divided = next((way for way in ways if way is not None), None)
        if divided is None:
            break
        units = divided
    return units


def _divided(units: Mapping[str, str], unit: str) -> dict[str, str] | None:
    """The units with one of them divided into what is in it; None if it is a single layer."""
    depth = unit.count(".") + 2
    inner = {layer: ".".join(layer.split(".")[:depth]) for layer, each in units.items() if each == unit}
    divided = {**units, **inner}
    if len(set(divided.values())) > _MOST:
        runs = _runs_of_modules(unit, list(dict.fromkeys(inner.values())))
        divided |= {layer: runs[module] for layer, module in inner.items()}
    return None if divided == units else divided


def _by_size(units: Mapping[str, str], layers: Mapping[str, int]) -> list[str]:
    sizes: Counter[str] = Counter()
    for layer, unit in units.items():
        sizes[unit] += layers[layer]
    return [unit for unit, _ in sizes.most_common()]


def _runs_of_modules(unit: str, modules: Sequence[str]) -> dict[str, str]:
    """The unit of each of the modules in one; it is in that one by its name, and a key of Hydra's grammar."""
    runs: dict[str, str] = {}
    for run in _runs(modules):
        first, last = (module.removeprefix(f"{unit}.") for module in (run[0], run[-1]))
        runs |= dict.fromkeys(run, run[0] if len(run) == 1 else f"{unit}.part_{first}-{last}")
    return runs


def _runs(items: Sequence[str]) -> list[Sequence[str]]:
    """Parts of as many items each, one after the other, as far as they divide."""
    count = min(_RUNS, len(items))
    places = [-(-run * len(items) // count) for run in range(count + 1)]
    return [items[start:end] for start, end in itertools.pairwise(places)]


def _path(node: Node) -> list[str]:
    """The modules that a layer lies in, and the layer; none if the file does not say."""
    parts = [part for part in node.name.split("/") if part][:-1]
    module = _module_of(node.inputs[1]) or node.module  # which is the one that called it
    if module and not (node.name.startswith("/") and parts):
        return [cleaned(part) for part in module.split(".")]
    path: list[str] = []
    for part, before in zip(parts, ["", *parts], strict=False):
        path += part.removeprefix(f"{before}.").split(".")  # an element of a list repeats the list's name
    return [cleaned(part) for part in path if part]


def _module_of(weight: str) -> str:
    """The module that a weight is of by its name; empty if that tells none."""
    is_path = weight.endswith(_WEIGHT) and "::" not in weight and "/" not in weight
    return weight.removesuffix(_WEIGHT) if is_path else ""


def cleaned(part: str) -> str:
    """A name that PyTorch, masks and configurations take."""
    return re.sub(r"\W+", "_", part).strip("_") or "layer"
