"""The search loop: it proposes points and takes in results until the budget or the space is used up.

It knows neither what a point means nor who evaluates it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from speakerquant.errors import UserError, first_line
from speakerquant.search.history import FAILURE, History
from speakerquant.search.ledger import Claim, Ledger
from speakerquant.search.space import Point
from speakerquant.search.suggestion import MakeSampler, Suggester, Suggestion

MAX_REPEATS = 10
"""How many repeats in a row a sampler may propose before an unseen point is drawn at random."""

RETRY = "retry"
"""Source of a point whose trial was interrupted."""

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Succeeded:
    """The evaluation's result, by name; names may nest."""

    result: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """The point cannot be evaluated."""

    reason: str


@dataclass(frozen=True)
class Interrupted:
    """The evaluation was broken off from outside, so that the point is worth another try."""

    reason: str


@dataclass(frozen=True)
class Unavailable:
    """What every evaluation needs does not answer: the point is worth another try, none is now."""

    reason: str


Outcome = Succeeded | Failed | Interrupted | Unavailable
Evaluate = Callable[[Sequence[Claim]], Sequence[Outcome]]
"""Evaluates a batch of points; one outcome each, in order."""


class FirstPoints(Protocol):
    """Points to evaluate before the sampler is asked."""

    def known(self, history: History) -> tuple[Sequence[Point], bool]:
        """The points that follow from the results so far, in order, and whether more will follow later."""


@dataclass(frozen=True)
class Budget:
    """How much to evaluate.

    Attributes:
        n_trials: Distinct points that complete or fail by themselves, over all processes.
        n_jobs: Points that are evaluated together.
        max_failure_rate: Share of ``n_trials`` that may fail.

    Raises:
        UserError: a number is out of range.
    """

    n_trials: int
    n_jobs: int = 1
    max_failure_rate: float = 1.0

    def __post_init__(self) -> None:
        for name in ("n_trials", "n_jobs"):
            if getattr(self, name) < 1:
                raise UserError(f"hydra.sweeper.{name}={getattr(self, name)}: use at least 1")
        if not 0.0 <= self.max_failure_rate <= 1.0:
            raise UserError(f"hydra.sweeper.max_failure_rate={self.max_failure_rate}: use 0 to 1")


class Search:
    """One process's part in a study.

    Args:
        ledger: The study.
        make_sampler: The sampler for a seed; without one, only ``first_points`` are evaluated.
        seed: The same seed, storage state and budget give the same points.
        first_points: Points to evaluate before the sampler is asked.
        budget: How much to evaluate.
        evaluate: Evaluates points.
        before_batch: Called before every batch, with what is known by then.
    """

    def __init__(
        self,
        ledger: Ledger,
        budget: Budget,
        evaluate: Evaluate,
        *,
        first_points: FirstPoints | None = None,
        make_sampler: MakeSampler | None = None,
        seed: int = 0,
        before_batch: Callable[[History], None] = lambda history: None,
    ) -> None:
        self._ledger = ledger
        self._make_sampler = make_sampler
        self._suggester: Suggester | None = None
        self._seed = seed
        self._first_points = first_points
        self._budget = budget
        self._evaluate = evaluate
        self._before_batch = before_batch

    def run(self) -> History:
        """Evaluate points until there is nothing left to do, then wait for the other processes' last ones.

        Raises:
            UserError: more trials failed than the budget allows, a result lacks an objective, or what the
                evaluations need does not answer.
        """
        with self._ledger.heartbeat():
            try:
                while True:
                    self._ledger.release_dead()
                    self._check_failures()
                    claims, history = self._claim_batch()
                    if claims:
                        self._before_batch(history)
                        self._record(claims, self._evaluate(claims))
                    elif history.running:
                        time.sleep(_POLL_SECONDS)
                    else:
                        return history
            except BaseException as error:
                stopped = not isinstance(error, Exception)  # Ctrl-C or SIGTERM
                self._ledger.interrupt_own("the search was stopped" if stopped else first_line(error))
                raise

    def _claim_batch(self) -> tuple[list[Claim], History]:
        """Points to evaluate now, and the history by which there are no more of them."""
        claims: list[Claim] = []
        history = self._ledger.history()
        while len(claims) < self._budget.n_jobs and (proposal := self._propose(history)):
            suggestion, source = proposal
            goes_alone = source == RETRY and history.goes_alone(suggestion.point)
            if goes_alone and claims:
                break
            claim = self._ledger.claim(
                suggestion.point, source, self._budget.n_trials, suggestion.system_attrs
            )
            if claim:
                claims.append(claim)
                if goes_alone:
                    break
            else:
                self._suggester = None  # a process with the same seed was faster: take other random numbers
            history = self._ledger.history()
        return claims, history

    def _propose(self, history: History) -> tuple[Suggestion, str] | None:
        """The next point and where it comes from; none if there is none to evaluate now."""
        taken = {*history.finished, *history.running}
        if len(taken) >= min(self._budget.n_trials, self._ledger.space.size):
            return None
        if self._make_sampler and (retries := history.to_retry()):
            return Suggestion(retries[0], {}), RETRY
        if self._first_points:
            points, more = self._first_points.known(history)
            for point in points:
                if (key := self._ledger.space.key(point)) not in taken:
                    return Suggestion(point, {}), RETRY if key in history.interruptions else "first"
            if more:
                return None
        return self._ask_sampler(history) if self._make_sampler else None

    def _ask_sampler(self, history: History) -> tuple[Suggestion, str] | None:
        space = self._ledger.space
        if self._suggester is None:
            assert self._make_sampler is not None
            sampler = self._make_sampler(self._seed_after(history))
            self._suggester = Suggester(sampler, space, self._ledger.goals)
        for _ in range(MAX_REPEATS):
            suggestion = self._suggester.suggest(history.trials)
            key = space.key(suggestion.point)
            if key in history.finished:
                self._ledger.repeat(history.finished[key], "sampler", suggestion.system_attrs)
                history = self._ledger.history()
            elif key not in history.running:
                return suggestion, "sampler"
        point = space.random_unseen({*history.finished, *history.running}, self._seed_after(history))
        return (Suggestion(point, {}), "random") if point is not None else None

    def _seed_after(self, history: History) -> int:
        """A seed that changes with the history, so that resuming or joining processes draw other numbers."""
        return int(np.random.SeedSequence([self._seed, len(history.trials)]).generate_state(1)[0])

    def _record(self, claims: Sequence[Claim], outcomes: Sequence[Outcome]) -> None:
        for claim, outcome in zip(claims, outcomes, strict=True):
            match outcome:
                case Succeeded(result):
                    self._ledger.complete(claim, result)
                case Failed(reason):
                    self._ledger.fail(claim, reason)
                case Interrupted(reason):
                    self._ledger.interrupt(claim, reason, may_be_cause=len(claims) > 1)
                case Unavailable(reason):
                    self._ledger.postpone(claim, reason)
        for outcome in outcomes:
            if isinstance(outcome, Unavailable):
                raise UserError(f"{outcome.reason}; the same command goes on when it works again")

    def _check_failures(self) -> None:
        failed = self._ledger.history().failed
        allowed = self._budget.max_failure_rate * self._budget.n_trials
        if len(failed) > allowed:
            raise UserError(
                f"{len(failed)} trials failed, more than hydra.sweeper.max_failure_rate="
                f"{self._budget.max_failure_rate:g} of {self._budget.n_trials} allows; "
                f"the last: {failed[-1].user_attrs.get(FAILURE)}; if that has been mended, use another "
                "hydra.sweeper.study_name, or a larger max_failure_rate"
            )
