"""What jobs of one multirun share: it is opened once for all in a row that ask for the same."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Generic, TypeVar

from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.cache import Cache
from speakerquant.configuration.opening import open_evaluator, open_model
from speakerquant.configuration.schema import ModelConfig, RunConfig
from speakerquant.measuring.evaluator import MaskEvaluator

T = TypeVar("T")

# What an evaluator does not know: the mask, and what becomes of results.
_NOT_OF_THE_EVALUATOR = {"mask", "tracking", "front", "space"}


class _Latest(Generic[T]):
    """Keeps what was opened last, and nothing else: a network with its features may take gigabytes."""

    def __init__(self) -> None:
        self._kept: tuple[object, T] | None = None

    def get(self, key: object, open_it: Callable[[], T]) -> T:
        if self._kept is None or self._kept[0] != key:
            self._kept = None  # before another is opened
            self._kept = key, open_it()
        return self._kept[1]


@dataclass(frozen=True)
class Sharing:
    """Opens what configurations name; one that asks for the same as the one before gets the same objects."""

    _model: _Latest[SpeakerModel] = field(default_factory=_Latest)
    _evaluator: _Latest[MaskEvaluator] = field(default_factory=_Latest)

    def model(self, config: ModelConfig, cache: Cache) -> SpeakerModel:
        """As :func:`speakerquant.configuration.opening.open_model`; nobody may change it."""
        return self._model.get((config, cache.root), lambda: open_model(config, cache))

    def evaluator(self, config: RunConfig, cache: Cache) -> MaskEvaluator:
        """As :func:`speakerquant.configuration.opening.open_evaluator`, of the shared model.

        With its features, ranges, baseline and the baseline's draws, once these have been needed.
        """
        parts = {each.name: getattr(config, each.name) for each in fields(config)}
        key = {name: part for name, part in parts.items() if name not in _NOT_OF_THE_EVALUATOR}
        return self._evaluator.get(
            key, lambda: open_evaluator(config, self.model(config.model, cache), cache)
        )


MULTIRUN = Sharing()
"""That of the multirun or search that this process works on."""
