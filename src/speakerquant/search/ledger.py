"""The record of a study: every point is evaluated once, and dead processes are not waited for."""

import json
import logging
import math
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from speakerquant.errors import UserError
from speakerquant.search.goals import Goals
from speakerquant.search.history import (
    FAILURE,
    HEARTBEAT,
    INTERRUPTED,
    MAY_BE_CAUSE,
    OWNER,
    POSTPONED,
    REPEAT_OF,
    RESULT,
    SOURCE,
    WITHDRAWN,
    History,
)
from speakerquant.search.owner import HEARTBEAT_SECONDS, Owner
from speakerquant.search.space import Point, Space

log = logging.getLogger(__name__)

MAX_RETRIES = 10
"""How often an interrupted point of a search is taken up again."""

_RECORD = "search"  # study attribute: {"identity": ..., "fingerprint": {...}}
_CREATION_SECONDS = 5.0


@dataclass(frozen=True)
class Claim:
    """A point that this process, and no other, evaluates."""

    study: str
    trial_id: int
    number: int
    point: Point
    source: str


class Ledger:
    """One study in a storage.

    Args:
        storage: Any of Optuna's.
        name: The name of the study, which is made on first use.
        space: What is searched.
        goals: Objectives and constraints.
        fingerprint: What must be the same for two trials to be comparable, by name.
        retries: How often an interrupted point is taken up again; after that it has failed by itself.

    Raises:
        UserError: the study has another fingerprint, or was not made by this search.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        space: Space,
        goals: Goals,
        fingerprint: Mapping[str, str],
        retries: float = MAX_RETRIES,
    ) -> None:
        self.name = name
        self.space = space
        self.goals = goals
        self._storage = storage
        self._retries = retries
        self._owner = Owner.this_process()
        # By trial: the last heartbeat, and since when this process has known it.
        self._heard: dict[int, tuple[float, float]] = {}
        try:
            self._study_id = storage.create_new_study(goals.directions, name)
            self._write_record(fingerprint)
        except DuplicatedStudyError:
            self._study_id = storage.get_study_id_from_name(name)
            self._check(fingerprint)
        self._study = optuna.load_study(study_name=name, storage=storage)

    @property
    def identity(self) -> str:
        """Identifies the study among all that had its name, in other storages or before it was deleted."""
        return str(self._record()["identity"])

    def history(self) -> History:
        """What the study holds now."""
        return History(self.space, self._trials())

    def claim(
        self,
        point: Point,
        source: str,
        limit: int,
        system_attrs: Mapping[str, Any] | None = None,
    ) -> Claim | None:
        """Take a point to evaluate; none if another process was faster, or has taken the last of ``limit``.

        The trial is created running and with its point, in one write. Storages number trials in the order
        of these writes, so of two processes that claim the same point, exactly the one with the higher
        number sees the other, and withdraws.
        """
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(point),
            distributions=dict(self.space.axes),
            user_attrs={OWNER: self._owner.record(), HEARTBEAT: time.time(), SOURCE: source},
            system_attrs=dict(system_attrs or {}),
        )
        trial_id = self._storage.create_new_trial(self._study_id, template)
        number = self._storage.get_trial_number_from_id(trial_id)
        before = History(self.space, [trial for trial in self._trials() if trial.number < number])
        key = self.space.key(point)
        if key in before.running or key in before.finished:
            self._end(trial_id, {WITHDRAWN: "another process had claimed the point"})
            return None
        if len(before.running) + len(before.finished) >= limit:
            self._end(trial_id, {WITHDRAWN: "another process had claimed the last trial"})
            return None
        return Claim(self.name, trial_id, number, point, source)

    def complete(self, claim: Claim, result: Mapping[str, Any]) -> None:
        """Record the result; one whose objective is not finite fails.

        Raises:
            UserError: the result has no such objective or constraint; the trial is then interrupted.
        """
        try:
            measured = self.goals.read(result)
        except UserError as error:
            self.interrupt(claim, str(error))
            raise
        numbers = {**measured.objectives, **measured.excesses}
        broken = [name for name, value in numbers.items() if not math.isfinite(value)]
        if broken:
            self.fail(claim, f"{broken[0]} is {numbers[broken[0]]}")
            return
        try:
            trial = Trial(self._study, claim.trial_id)  # the one public way to set a constraint
            for name, excess in measured.excesses.items():
                trial.set_constraint(name, excess)
            trial.set_user_attr(RESULT, json.loads(json.dumps(result, default=_plain)))
            values = list(measured.objectives.values())
            self._storage.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, values)
        except UpdateFinishedTrialError:
            log.warning("trial %d was given up as dead before its result came", claim.number)

    def fail(self, claim: Claim, reason: str) -> None:
        """Record that the evaluation failed by itself."""
        self._end(claim.trial_id, {FAILURE: reason})

    def interrupt(self, claim: Claim, reason: str, *, may_be_cause: bool = False) -> None:
        """Record that the evaluation was broken off, so that the point is asked again.

        Args:
            claim: The point.
            reason: What broke it off.
            may_be_cause: Whether the point itself may have done so, and is to be evaluated alone.
        """
        self._interrupt(self._storage.get_trial(claim.trial_id), reason, may_be_cause)

    def postpone(self, claim: Claim, reason: str) -> None:
        """Record that what every evaluation needs did not answer: the point is asked again, however often."""
        self._end(claim.trial_id, {POSTPONED: reason})

    def interrupt_own(self, reason: str) -> None:
        """Interrupt every trial that this process still runs."""
        for trial in self._own():
            self._interrupt(trial, reason, may_be_cause=False)

    def repeat(self, original: FrozenTrial, source: str, system_attrs: Mapping[str, Any]) -> None:
        """Answer a point that has been evaluated with what was measured then."""
        user_attrs: dict[str, Any] = {REPEAT_OF: original.number, SOURCE: source}
        if FAILURE in original.user_attrs:
            user_attrs[FAILURE] = original.user_attrs[FAILURE]
        template = create_trial(
            state=original.state,
            values=original.values,
            params=original.params,
            distributions=original.distributions,
            user_attrs=user_attrs,
            system_attrs=dict(system_attrs),
            constraints=original.constraints or None,
        )
        self._storage.create_new_trial(self._study_id, template)

    def release_dead(self) -> None:
        """Interrupt the trials whose process has died without ending them."""
        for trial in self._running():
            if self._is_dead(trial):
                is_again = self.space.key(trial.params) in self.history().interruptions
                self._interrupt(trial, "its process died without ending the trial", may_be_cause=is_again)

    def other_machines(self) -> set[str]:
        """Names of other machines that run trials now."""
        running = [
            trial for trial in self._running() if OWNER in trial.user_attrs and not self._is_dead(trial)
        ]
        owners = [Owner.from_record(trial.user_attrs[OWNER]) for trial in running]
        return {name for owner in owners if (name := owner.other_machine)}

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Keep this process's running trials fresh for observers on other hosts."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_SECONDS):
                try:
                    self._beat()
                except Exception as error:  # the next beat may succeed; the trial's own end will report
                    log.warning("the storage did not take a heartbeat: %s", error)

        thread = threading.Thread(target=beat, name="search heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _beat(self) -> None:
        for trial in self._own():
            try:
                self._storage.set_trial_user_attr(trial._trial_id, HEARTBEAT, time.time())
            except UpdateFinishedTrialError:
                continue

    def _trials(self) -> Sequence[FrozenTrial]:
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        # Another program's trials in this study may have other parameters, and are none of ours.
        return [trial for trial in trials if trial.params.keys() >= self.space.axes.keys()]

    def _running(self) -> Sequence[FrozenTrial]:
        return [trial for trial in self._trials() if trial.state is TrialState.RUNNING]

    def _own(self) -> Sequence[FrozenTrial]:
        """The running trials of this process."""
        record = self._owner.record()
        return [trial for trial in self._running() if trial.user_attrs.get(OWNER) == record]

    def _is_dead(self, trial: FrozenTrial) -> bool:
        if OWNER not in trial.user_attrs:
            return False  # run by somebody else's program
        owner = Owner.from_record(trial.user_attrs[OWNER])
        heartbeat = float(trial.user_attrs.get(HEARTBEAT, 0.0))
        now = time.monotonic()
        last, since = self._heard.get(trial._trial_id, (None, now))
        if heartbeat != last:
            since = now
        self._heard[trial._trial_id] = heartbeat, since
        return owner.is_gone(heartbeat, now - since)

    def _interrupt(self, trial: FrozenTrial, reason: str, may_be_cause: bool) -> None:
        earlier = self.history().interruptions.get(self.space.key(trial.params), 0)
        if earlier >= self._retries:
            self._end(trial._trial_id, {FAILURE: f"interrupted {earlier + 1} times; at last: {reason}"})
        else:
            suspicion = {MAY_BE_CAUSE: "yes"} if may_be_cause else {}
            self._end(trial._trial_id, {INTERRUPTED: reason, **suspicion})

    def _end(self, trial_id: int, user_attrs: Mapping[str, str]) -> None:
        try:
            for name, value in user_attrs.items():
                self._storage.set_trial_user_attr(trial_id, name, value)
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            pass  # another process has seen the same, or the trial has ended after all

    def _check(self, fingerprint: Mapping[str, str]) -> None:
        deadline = time.monotonic() + _CREATION_SECONDS
        while self._record() is None and time.monotonic() < deadline:
            time.sleep(0.1)  # its creator is about to write it
        if self._record() is None and not self._trials():
            self._write_record(fingerprint)  # its creator died
        record = self._record()
        if record is None:
            raise UserError(
                f"hydra.sweeper.study_name={self.name}: this study was not made by this sweeper; "
                "use another study_name"
            )
        recorded = record["fingerprint"]
        names = sorted({*recorded, *fingerprint})
        different = [name for name in names if recorded.get(name) != fingerprint.get(name)]
        if different:
            name = different[0]
            raise UserError(
                f"hydra.sweeper.study_name={self.name}: this study has another {', '.join(different)} "
                f"({name}: {recorded.get(name)} there, {fingerprint.get(name)} here); use another study_name"
            )

    def _record(self) -> Any:
        return self._storage.get_study_user_attrs(self._study_id).get(_RECORD)

    def _write_record(self, fingerprint: Mapping[str, str]) -> None:
        record = {"identity": uuid.uuid4().hex, "fingerprint": dict(fingerprint)}
        self._storage.set_study_user_attr(self._study_id, _RECORD, record)


def _plain(value: Any) -> float | str:
    """The JSON form of what JSON does not know, such as NumPy's numbers or a path."""
    return float(value) if isinstance(value, Real) else str(value)
