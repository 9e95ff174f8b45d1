"""Trains the network of a mask to give the embeddings of the FP32 network again."""

import copy
import logging
import math
import pickle
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn

from speakerquant.errors import UserError, first_line
from speakerquant.files import atomic_path, write_from_memory
from speakerquant.progress import track
from speakerquant.recovery.settings import RecoverySettings
from speakerquant.recovery.speech import Pieces
from speakerquant.recovery.student import Student

log = logging.getLogger(__name__)

_VALIDATE_EVERY = 25  # steps; the state is saved as often
_TIMED = 3  # steps that tell how long all will take
_UNREADABLE = (OSError, EOFError, pickle.UnpicklingError, RuntimeError, KeyError, TypeError, ValueError)
_SCALES_RATE, _OFFSETS_RATE = 0.1, 0.02  # of the rate of latent weights


@dataclass(frozen=True)
class Outcome:
    """What a distillation has come to.

    Attributes:
        learned: What gave the least distance on the pieces held out, by name of the parameter.
        before: The mean distance, 1 - cosine, that the mask had there before.
        after: The one that it has with what was learned.
    """

    learned: Mapping[str, Tensor]
    before: float
    after: float


def distillation_loss(embeddings: Tensor, wanted: Tensor) -> Tensor:
    """How far embeddings ``[B, dim]`` are from those wanted: each by itself, and all among each other.

    The mean of 1 - cosine, and the mean squared difference of the similarities within the batch.
    """
    ours, theirs = F.normalize(embeddings), F.normalize(wanted)
    similarities = ours @ ours.T - theirs @ theirs.T
    return (1 - (ours * theirs).sum(dim=1)).mean() + similarities.square().mean()


class Distillation:
    """Trains a student on unlabelled speech by its teacher, the FP32 network.

    A distillation that was killed and goes on from its last state comes to what an undisturbed one does.
    """

    def __init__(
        self, teacher: nn.Module, student: Student, pieces: Pieces, settings: RecoverySettings
    ) -> None:
        # One process, wherever it runs: the tasks of a scheduler's job evaluate masks of their own.
        self._fabric = Fabric(devices=1, plugins=[LightningEnvironment()])
        self._student, self._pieces, self._settings = student, pieces, settings
        rate = settings.learning_rate
        optimizer = torch.optim.Adam(
            [
                {"params": student.latent_weights, "lr": rate},
                {"params": student.growths, "lr": rate * _SCALES_RATE},
                {"params": student.offsets, "lr": rate * _OFFSETS_RATE},
            ]
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate_factor)
        self._network, self._optimizer = self._fabric.setup(student.network, optimizer)
        self._teacher = copy.deepcopy(teacher).to(self._fabric.device)
        self._held_out = [(batch, self._wanted(batch)) for batch in pieces.held_out()]
        self._step = 0
        self._outcome: Outcome | None = None

    def fit(self, path: Path) -> None:
        """Train to the last step, and leave the :class:`Outcome` at ``path``, where the state is until then.

        Raises:
            UserError: something else is at ``path``, or embeddings are no longer finite.
        """
        # cuDNN would round to TF32, and add in an order of its own
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            if path.exists():
                self._resume(path)
            else:
                self._validate()
            for _ in track(self._timed_steps(), "recovery", self._settings.steps, completed=self._step):
                self._train_step()
                if self._step % _VALIDATE_EVERY == 0 or self._step == self._settings.steps:
                    self._validate()
                    self._save(path)

    def _timed_steps(self) -> Iterator[int]:
        """The steps that are left; after the first few, how long they will take is said."""
        first, start = self._step, time.perf_counter()
        for step in range(first, self._settings.steps):
            if step == first + _TIMED:
                seconds = (time.perf_counter() - start) / _TIMED * (self._settings.steps - step)
                log.info("recovery: %d steps, about %.0f s to go", self._settings.steps, seconds)
            yield step

    def _train_step(self) -> None:
        batch = self._fabric.to_device(self._pieces[self._step])
        loss = distillation_loss(self._network(batch), self._wanted(batch))
        self._fabric.backward(loss)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._schedule.step()
        self._student.keep_in_bounds()
        self._step += 1

    def _validate(self) -> None:
        """Keep what is learned if it is the best so far on the pieces held out."""
        with torch.inference_mode():
            cosines = [
                F.cosine_similarity(self._network(self._fabric.to_device(batch)), wanted)
                for batch, wanted in self._held_out
            ]
        distance = 1 - float(torch.cat(cosines).cpu().double().mean())
        if not math.isfinite(distance):
            raise UserError(
                f"recovery, step {self._step}: embeddings are no longer finite; lower recovery.learning_rate"
            )
        best = self._outcome
        if best is None or distance < best.after:
            learned = {name: value.detach().cpu().clone() for name, value in self._student.learned.items()}
            self._outcome = Outcome(learned, best.before if best else distance, distance)

    def _wanted(self, batch: Tensor) -> Tensor:
        with torch.inference_mode():
            wanted: Tensor = self._teacher(self._fabric.to_device(batch))
        return wanted

    def _rate_factor(self, step: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * step / self._settings.steps))

    def _save(self, path: Path) -> None:
        assert self._outcome is not None
        state: dict[str, object] = {"outcome": vars(self._outcome)}
        if self._step < self._settings.steps:
            state |= {
                "step": self._step,
                "learned": self._student.learned,
                "optimizer": self._optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
            }
        with atomic_path(path) as part:
            write_from_memory(part, partial(torch.save, state))

    def _resume(self, path: Path) -> None:
        with _readable(path):
            state = torch.load(path, map_location=self._fabric.device, weights_only=True)
            self._outcome = Outcome(**state["outcome"])
            if "step" not in state:  # it was killed after the last step
                self._step = self._settings.steps
                return
            self._student.load(state["learned"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._schedule.load_state_dict(state["schedule"])
            self._step = state["step"]


def read_outcome(path: Path) -> Outcome:
    """What :meth:`Distillation.fit` has left.

    Raises:
        UserError: the file holds something else.
    """
    with _readable(path):
        return Outcome(**torch.load(path, map_location="cpu", weights_only=True)["outcome"])


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise UserError(
            f"{path}: not the state of this recovery ({first_line(error)}); delete it and run again"
        ) from None
