"""What an application may add to a search over its configuration."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from speakerquant.search.goals import Goals
from speakerquant.search.ledger import Ledger
from speakerquant.search.search_loop import FirstPoints
from speakerquant.search.space import Point, Space
from speakerquant.search.view import PlainView, View

TRIAL_FILE = "trial.json"
"""File in a job's folder that names ``study``, ``trial`` (its number), ``source`` and ``point``.

It tells whether it ``is_final``, too: measured on data that the search has not seen.
"""


class Observer:
    """Is told how a search goes, and by itself does nothing about it."""

    def before_batch(self) -> None:
        """Called when points have been claimed and are about to be evaluated."""

    def updated(self, files: Sequence[Path], recommended: Mapping[str, Any] | None) -> None:
        """Called when the report has been written, with its files and the recommended result, if any."""

    def closed(self, failure: str | None) -> None:
        """Called when the search ends; ``failure`` says why if it is not complete."""


class SearchApplication:
    """What an application adds to a search; subclasses override what they add, this class adds nothing."""

    def params(self, config: Any, given: Collection[str]) -> Mapping[str, str]:
        """Config key: choice(...) and the like, as ``hydra.sweeper.params`` has it, for what is not given.

        Args:
            config: The configuration of one point, as far as it is given.
            given: The keys that the user has set or searches, which replace what is returned for them.

        Raises:
            UserError: the configuration does not say what to search.
        """
        return {}

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

    def final_overrides(self, config: Any) -> Sequence[str]:
        """With these the recommended point is evaluated once more, on data that the search has not seen.

        Args:
            config: The configuration of one point.
        """
        return ()

    def final_fingerprint(self, config: Any) -> Mapping[str, str]:
        """What must be equal, beside the fingerprint, for a final evaluation to be taken for another.

        Args:
            config: The configuration of one point, with ``final_overrides``.

        Raises:
            UserError: no point can be evaluated finally with this configuration.
        """
        return {}

    def changed_input(self, result: Mapping[str, Any], *, is_final: bool) -> str | None:
        """What a point was measured on that is not what the fingerprint was of, in words; none if all is.

        Args:
            result: What was measured.
            is_final: Whether that was with ``final_overrides``.
        """
        return None

    def goals(self, config: Any, goals: Goals) -> Goals:
        """What the search is for: the sweeper's goals, and what the application's configuration adds.

        Args:
            config: The configuration of one point.
            goals: Those of the sweeper.
        """
        return goals

    def first_points(self, config: Any, space: Space, goals: Goals, defaults: Point) -> FirstPoints | None:
        """What to evaluate before the sampler is asked.

        Args:
            config: The configuration of one point.
            space: What is searched.
            goals: What is searched for.
            defaults: The configuration's own value on every axis.
        """
        return None

    def view(self, config: Any, goals: Goals) -> View:
        """How to show results.

        Args:
            config: The configuration of one point.
            goals: What is searched for.
        """
        return PlainView(goals)

    def observer(self, config: Any, ledgers: Sequence[Ledger], folder: Path) -> Observer:
        """What is told how the search goes.

        Args:
            config: The configuration of one point.
            ledgers: The ledger of the search, and that of the final evaluation if there is one.
            folder: The folder of the search.
        """
        return Observer()

    def was_final(self, result: Mapping[str, Any]) -> bool:
        """Whether a result of the search was already measured on the final data."""
        return False
