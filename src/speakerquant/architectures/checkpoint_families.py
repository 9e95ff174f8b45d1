"""Public checkpoints as they are distributed: the families, and what each calls the layers of a network.

A family is the software that trained a checkpoint. It may know several networks, and several may know one
network.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from speakerquant.architectures.family import Family
from speakerquant.errors import UserError

Weights = Mapping[str, Tensor]
"""The tensors of a state dict by name."""


# Of training in parallel, of compilation, and of trainers.
_WRAPPERS = (
    *("module.", "_orig_mod.", "__S__.", "speaker_encoder."),
    *("model.", "mods.", "net.", "network.", "embedding_model.", "encoder."),
)
# What lies beside the network whatever the family: what it was trained by, and a front end.
_BESIDE = re.compile(
    r"(classifier|classification|criterion|loss|speaker_loss|aam_?softmax|head|projection|mlp|torchfbank|__L__)\w*\."
)
_PARAMETER = re.compile(r"\.(weight|bias|running_mean|running_var)$")
# Of normalisations, and of averages of weights.
_COUNTER = re.compile(r"(.*\.)?(num_batches_tracked|n_averaged)")


@dataclass(frozen=True)
class ForeignCheckpoint:
    """A public checkpoint in our form.

    Attributes:
        config: Settings that shape the network.
        weights: Weights by the names that our network gives them.
    """

    config: Any
    weights: Weights


@dataclass(frozen=True)
class Layout:
    """How a family's state dict of one network is laid out.

    Attributes:
        signature: Names that only state dicts of this layout have.
        names: Our name for each pattern of its layers' names, without ``.weight`` and the like.
        arrange: Function from the weights by our names to the checkpoint. It reads settings off the shapes
            and gives weights the form that they have here; it may fail at what is missing or misshapen.
    """

    signature: tuple[str, ...]
    names: Mapping[str, str]
    arrange: Callable[[dict[str, Tensor]], ForeignCheckpoint]


class CheckpointFamilies:
    """The families of public checkpoints that one network can load.

    Their weights are given by names as :func:`unwrapped` leaves them.

    Args:
        network: What the network is called.
        layouts: The layout of each family.
    """

    def __init__(self, network: str, layouts: Mapping[Family, Layout]) -> None:
        self.network = network
        self._layouts = layouts

    @property
    def names(self) -> tuple[Family, ...]:
        """The families."""
        return tuple(self._layouts)

    def recognize(self, weights: Weights) -> list[Family]:
        """Return the families whose checkpoints of this network name their layers so."""
        return [family for family, layout in self._layouts.items() if weights.keys() >= {*layout.signature}]

    def num_known(self, weights: Weights, family: Family) -> int:
        """Return how many of the names are those of the family's checkpoints of this network."""
        names = self._layouts[family].names
        return sum(_our_name(name, names) is not None for name in weights)

    def convert(self, weights: Weights, family: Family) -> ForeignCheckpoint:
        """Return the checkpoint of that family in our form.

        Raises:
            UserError: a name is unknown or missing, or the shapes do not belong to this network.
        """
        layout = self._layouts[family]
        modules = {pattern.partition(r"\.")[0] for pattern in layout.names}
        converted: dict[str, Tensor] = {}
        for name, tensor in weights.items():
            ours = _our_name(name, layout.names)
            if ours is not None:
                converted[ours] = tensor.float()
            elif not _is_beside(name, modules):
                raise UserError(f"{name} is unknown in {family}")
        try:
            return layout.arrange(converted)
        except KeyError as error:
            raise UserError(f"{error.args[0]} is missing for {family}") from None
        except (UserError, ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
            # a UserError speaks of settings that nobody gave
            raise UserError(f"its shapes are those of no {self.network} ({error})") from None


def unwrapped(weights: Weights) -> Weights:
    """Return the weights by names without the prefixes of training in parallel, compilation and trainers.

    Raises:
        UserError: two are of one name then.
    """
    sources: dict[str, str] = {}
    for name in weights:
        inner = name
        while inner.startswith(_WRAPPERS):
            inner = inner.partition(".")[2]
        other = sources.setdefault(inner, name)
        if other != name and not _is_beside(inner):
            raise UserError(f"{other} and {name}: the weights of two networks; give those of one of them")
    return {inner: weights[name] for inner, name in sources.items()}


def without_first_part(weights: Weights) -> Weights | None:
    """Return the weights without a prefix that all names in the network have, such as ``backbone.``."""
    prefixes = {name[: name.find(".") + 1] for name in weights if not _is_beside(name)}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    if not prefix:
        return None
    return unwrapped({name.removeprefix(prefix): tensor for name, tensor in weights.items()})


def _is_beside(name: str, modules: Collection[str] = ()) -> bool:
    """Whether it is none of the network's, of which modules may be called as what lies beside others."""
    if _COUNTER.fullmatch(name):
        return True
    return name.partition(".")[0] not in modules and _BESIDE.match(name) is not None


def _our_name(name: str, names: Mapping[str, str]) -> str | None:
    parameter = _PARAMETER.search(name)
    if parameter is None:
        return None
    layer = name[: parameter.start()]
    for pattern, replacement in names.items():
        if match := re.fullmatch(pattern, layer):
            return match.expand(replacement) + parameter[0]
    return None
