"""One command's work on a study: search, report, evaluate the recommended point on unseen data."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from speakerquant.errors import UserError, first_line
from speakerquant.search.application import Observer, SearchApplication
from speakerquant.search.front import Entry, front_of
from speakerquant.search.history import FAILURE, History, result_of
from speakerquant.search.ledger import MAX_RETRIES, Claim, Ledger
from speakerquant.search.search_loop import (
    Budget,
    Failed,
    FirstPoints,
    Interrupted,
    Outcome,
    Search,
    Succeeded,
)
from speakerquant.search.space import Point
from speakerquant.search.suggestion import MakeSampler

log = logging.getLogger(__name__)

_REWRITE_SECONDS = 10.0
_REWRITE_SHARE = 0.05
"""Between two writings of the report amid the search at least these seconds pass, and so many that writing
takes no more than this share of the time: its pictures and predictions may take longer than a fast trial."""

EvaluateWith = Callable[[Sequence[Claim], Sequence[str]], Sequence[Outcome]]
"""Evaluates points with further overrides."""


class Report(Protocol):
    """Shows people what a study has found.

    ``final_result`` is what the recommended point measured on unseen data, when that is known.
    """

    def write(self, history: History, final_result: Mapping[str, Any] | None = None) -> Sequence[Path]:
        """Write files, and say which."""

    def print(self, history: History, final_result: Mapping[str, Any] | None = None) -> None:
        """Print to standard output."""


@dataclass(frozen=True)
class Session:
    """What a search needs beside its budget.

    Attributes:
        ledger: The study.
        final_ledger: The study of the final evaluations; none if the application has no other data.
        final_overrides: With these the recommended point is evaluated finally.
        application: Whose configuration is searched.
        evaluate: Evaluates points.
        report: Shows the front.
        observer: Is told how it goes.
    """

    ledger: Ledger
    final_ledger: Ledger | None
    final_overrides: Sequence[str]
    application: SearchApplication
    evaluate: EvaluateWith
    report: Report
    observer: Observer

    def run(
        self, budget: Budget, first_points: FirstPoints | None, make_sampler: MakeSampler | None, seed: int
    ) -> None:
        """Search until the budget is used, then evaluate the recommended point.

        However it ends, what has been found is reported.

        Raises:
            UserError: too many trials failed, or the recommended point could not be evaluated.
        """
        search = Search(
            self.ledger,
            budget,
            lambda claims: self._evaluate(claims, ()),
            first_points=first_points,
            make_sampler=make_sampler,
            seed=seed,
            before_batch=self._progress(),
        )
        try:
            history = search.run()
            if first_points and len(history.finished) >= budget.n_trials:
                self._say_what_is_left(history, budget, first_points)
            self._show(history, self._final_result(front_of(history, self.ledger.goals).recommended))
        except (StorageInternalError, SQLAlchemyError) as error:
            self.observer.closed(first_line(error))
            raise UserError(
                f"hydra.sweeper.storage: it failed during the search ({first_line(error)[:200]}); "
                "the same command goes on when it works again"
            ) from error
        except BaseException as error:
            self._show_unfinished()
            self.observer.closed(first_line(error) if isinstance(error, Exception) else "stopped")
            raise
        self.observer.closed(None)

    def _progress(self) -> Callable[[History], None]:
        """Prints the report before every batch, and writes it from time to time."""
        due = time.monotonic() + _REWRITE_SECONDS

        def show(history: History) -> None:
            nonlocal due
            if not history.finished:
                return
            self.report.print(history)
            if (start := time.monotonic()) >= due:
                self._write(history)
                end = time.monotonic()
                due = end + max(_REWRITE_SECONDS, (end - start) / _REWRITE_SHARE)

        return show

    def _say_what_is_left(self, history: History, budget: Budget, first_points: FirstPoints) -> None:
        """Say that the budget ended before the points that come first."""
        try:
            points, _ = first_points.known(history)
        except UserError:  # by what was found there is no telling
            return
        left = {self.ledger.space.key(point) for point in points} - history.finished.keys()
        if left:
            log.warning(
                "hydra.sweeper.n_trials=%d is used up, and %d points or more were to come before this can be "
                "relied on; the same command with a larger number goes on",
                *(budget.n_trials, len(left)),
            )

    def _show_unfinished(self) -> None:
        try:
            if (history := self.ledger.history()).completed:
                self._show(history)
        except Exception as error:  # what ended the search is what the user must hear of
            log.warning("the front could not be written: %s", first_line(error))

    def _show(self, history: History, final_result: Mapping[str, Any] | None = None) -> None:
        self.report.print(history, final_result)
        self._write(history, final_result)

    def _write(self, history: History, final_result: Mapping[str, Any] | None = None) -> None:
        files = self.report.write(history, final_result)
        recommended = front_of(history, self.ledger.goals).recommended
        self.observer.updated(files, recommended.result if recommended else None)

    def _evaluate(self, claims: Sequence[Claim], overrides: Sequence[str]) -> Sequence[Outcome]:
        self.observer.before_batch()
        outcomes = self.evaluate(claims, overrides)
        for outcome in outcomes:
            if isinstance(outcome, Succeeded) and (
                changed := self.application.changed_input(outcome.result, is_final=bool(overrides))
            ):
                raise UserError(f"{changed} changed during the search; the same command begins another study")
        return outcomes

    def _final_result(self, recommended: Entry | None) -> Mapping[str, Any] | None:
        """Evaluated once per study, even by several processes or after a restart."""
        ledger = self.final_ledger
        if ledger is None or recommended is None or self.application.was_final(recommended.result):
            return None
        only = _Only(recommended.point)
        evaluated = Search(
            ledger,
            Budget(sys.maxsize),
            self._evaluate_finally,
            first_points=only,
        ).run()
        trial = evaluated.finished[ledger.space.key(recommended.point)]
        if FAILURE in trial.user_attrs:
            raise _no_final_result(trial.user_attrs[FAILURE])
        return result_of(trial)

    def _evaluate_finally(self, claims: Sequence[Claim]) -> Sequence[Outcome]:
        """A failure breaks the evaluation off, so that the same command tries it again."""
        for _ in range(1 + MAX_RETRIES):
            outcomes = self._evaluate(claims, self.final_overrides)
            if not any(isinstance(outcome, Interrupted) for outcome in outcomes):
                break
        for outcome in outcomes:
            if isinstance(outcome, Failed | Interrupted):
                raise _no_final_result(outcome.reason)
        return outcomes


def _no_final_result(reason: str) -> UserError:
    return UserError(f"the recommended point could not be evaluated on unseen data: {reason}")


@dataclass(frozen=True)
class _Only:
    """A single first point."""

    point: Point

    def known(self, history: History) -> tuple[Sequence[Point], bool]:
        return [self.point], False
