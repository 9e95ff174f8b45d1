"""What an application may add to a search over its configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speakerquant.search.goals import Goals
from speakerquant.search.ledger import Ledger
from speakerquant.search.loop import FirstPoints
from speakerquant.search.space import Point, Space
from speakerquant.search.view import PlainView, View

TRIAL_FILE = "trial.json"
"""In a job's folder: ``study``, ``trial`` (its number), ``source`` and ``point``."""


class Observer:
    """Told how a search goes; this one does not listen."""

    def before_batch(self) -> None:
        """Points have been claimed and are about to be evaluated."""

    def updated(self, files: Sequence[Path]) -> None:
        """The report was written."""

    def closed(self, failure: str | None) -> None:
        """The search ends here; ``failure`` says why if it is not complete."""


class SearchApplication:
    """Base of an application's own; by itself it adds nothing.

    A Hydra application makes it known as attribute ``search`` of its task function.
    """

    final_overrides: Sequence[str] = ()
    """With these the recommended point is evaluated once more, on data that the search has not seen."""

    def is_time(self, name: str) -> bool:
        """Whether a number of a result is a time, which depends on the machine and what else runs on it."""
        return False

    def fingerprint(self, config: Any, space: Space, goals: Goals) -> Mapping[str, str]:
        """What, beside space and goals, must be equal for two trials to be comparable.

        Args:
            config: The configuration of one point.
            space: What is searched, and therefore differs between trials.
            goals: What is compared.

        Raises:
            UserError: no point can be evaluated with this configuration.
        """
        return {}

    def first_points(self, space: Space, goals: Goals, defaults: Point) -> FirstPoints | None:
        """What to evaluate before the sampler is asked."""
        return None

    def view(self, goals: Goals) -> View:
        """How to show results."""
        return PlainView(goals)

    def observer(self, config: Any, ledgers: Sequence[Ledger], folder: Path) -> Observer:
        """Whom to tell. ``ledgers`` are the search's and, if there is one, that of the final evaluation."""
        return Observer()

    def was_final(self, result: Mapping[str, Any]) -> bool:
        """Whether a result of the search was already measured on the final data."""
        return False
