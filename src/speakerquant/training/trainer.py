"""The training loop: Lightning Fabric, resumable at any step."""

import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.distributed
import torchaudio.transforms
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.audio.feature_extractor import FeatureExtractor
from speakerquant.engine.cpu import available_cpus
from speakerquant.errors import UserError, first_line
from speakerquant.files import atomic_path, write_from_memory
from speakerquant.progress import track
from speakerquant.training.batches import SPEEDS, TrainingBatches
from speakerquant.training.hyperparameters import TrainingConfig
from speakerquant.training.loss import AamSoftmax

FabricPrecision = Literal["bf16-mixed", "32-true"]
"""Lightning Fabric's names of the arithmetic of the training steps."""

Report = Callable[[int, Mapping[str, float]], None]
"""A function that is given the number of steps done and the metrics measured there."""

Validate = Callable[[SpeakerNetwork], Mapping[str, float]]
"""A function that measures a network in evaluation mode."""


def choose_precision(device_type: str) -> FabricPrecision:
    """Choose ``bf16-mixed`` where bf16 is fast (GPUs; CPUs with AMX or AVX512-BF16), else ``32-true``.

    Measured on two cores, 32 crops of 1.5 s, C = 512: with AMX a step takes 0.4 s in bf16 and 0.9 s in
    FP32; without AMX and AVX512-BF16, bf16 is emulated and slower than FP32.
    """
    if device_type == "cuda":
        return "bf16-mixed"
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if fast else "32-true"


class Classifier(nn.Module):
    """The network under its training head; computes the loss of features ``[B, n_mels, T]``."""

    def __init__(self, network: SpeakerNetwork, head: AamSoftmax) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.head(self.network(features), labels)
        return loss


class Trainer:
    """Trains a model's network, from the weights that it has, under a new head on numbered batches.

    A training that was stopped and resumed, with as many processes, equals one that was not.

    Args:
        fabric: What runs the steps.
        model: The network with its front end.
        batches: What it is trained on.
        config: How.
        settings: Whatever decides the course of the training, by name: one with others is not resumed.

    Raises:
        UserError: the network takes no recordings as short as the crops.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: SpeakerModel,
        batches: TrainingBatches,
        config: TrainingConfig,
        settings: Mapping[str, object],
    ) -> None:
        self._fabric = fabric
        self._settings = dict(settings)
        self._config = config
        self._batches = batches
        self._step = 0
        self._initial_weights = model.digest
        self._network = model.network
        torch.manual_seed(config.seed)
        self._head = AamSoftmax(model.network.embedding_dim, batches.num_classes, config.scale)
        self._classifier = Classifier(model.network, self._head)
        optimizer = torch.optim.AdamW(
            self._classifier.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate_factor)
        self._model, self._optimizer = fabric.setup(self._classifier, optimizer)
        self._features = FeatureExtractor(model.front_end).to(fabric.device)
        self._check_crops(model)
        self._spec_augment = nn.Sequential(
            torchaudio.transforms.FrequencyMasking(config.frequency_mask, iid_masks=True),
            torchaudio.transforms.TimeMasking(config.time_mask, iid_masks=True),
        )

    @property
    def steps_left(self) -> int:
        """Number of steps that are still to be taken."""
        return self._config.num_steps - self._step

    def fit(self, state_path: Path, report: Report, validate: Validate) -> None:
        """Train to the last step, saving the state to ``state_path`` at every validation.

        Unless the training is a resumed one, the network is validated before its first step too (step 0).

        Raises:
            UserError: the gradient is no longer finite, or another process has ended.
        """
        with self._together():
            self._fit(state_path, report, validate)

    def _fit(self, state_path: Path, report: Report, validate: Validate) -> None:
        config = self._config
        if self._step == 0:
            self._validate(report, validate)
        self._model.train()
        for batch in track(
            self._remaining_batches(),
            "training steps",
            total=self.steps_left,
            visible=self._fabric.is_global_zero,
        ):
            loss, learning_rate = self._train_step(batch)
            if self._step % config.report_every == 0:
                value = self._mean_over_processes(loss)
                report(self._step, {"loss": value, "learning_rate": learning_rate})
            if self._step % config.validate_every == 0 or self._step == config.num_steps:
                self._validate(report, validate)
                self._model.train()
                self.save(state_path)

    def save(self, path: Path) -> None:
        """Write all that a resumed training needs; the file appears whole or not at all."""
        state = {
            "settings": self._settings,
            "initial_weights": self._initial_weights,
            "speakers": self._batches.speakers_digest,
            "step": self._step,
            "classifier": self._classifier.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "precision": self._fabric.strategy.precision.state_dict(),
        }
        if self._fabric.is_global_zero:
            with atomic_path(path) as part:
                write_from_memory(part, partial(torch.save, state))
        self._fabric.barrier()

    def load(self, path: Path) -> None:
        """Go on from the state that :meth:`save` wrote.

        Raises:
            UserError: the file is not a state of this network and these speakers, its training began from
                other weights, speakers or settings, or it went further than this one shall.
        """
        try:
            state = torch.load(path, map_location=self._fabric.device, weights_only=True)
            if state["initial_weights"] != self._initial_weights:
                raise UserError(
                    f"{path}: the state of a training that began from other weights; use the model that it "
                    "began from, delete it, or set another output"
                )
            former = state.get("settings", {})  # of before 0.3 without
            if changed := [
                name for name, value in self._settings.items() if former.get(name, value) != value
            ]:
                raise UserError(
                    f"{path}: the state of a training with {changed[0]}={former[changed[0]]}; go on with "
                    "that, delete it, or set another output"
                )
            if state["step"] > self._config.num_steps:
                raise UserError(
                    f"{path}: the state of a training after {state['step']} steps; raise training.num_steps, "
                    "delete it, or set another output"
                )
            classes = len(state["classifier"]["head.weight"]), self._batches.num_classes
            then, now = (number // len(SPEEDS) for number in classes)
            if then != now:
                raise UserError(
                    f"{path}: the state of a training on {then} speakers, and now there are {now}; go on "
                    "with the former ones, delete it, or set another output"
                )
            if state.get("speakers", self._batches.speakers_digest) != self._batches.speakers_digest:
                raise UserError(
                    f"{path}: the state of a training on other speakers or recordings; give those that it "
                    "began with, delete it, or set another output"
                )
            self._classifier.load_state_dict(state["classifier"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._schedule.load_state_dict(state["schedule"])
            self._fabric.strategy.precision.load_state_dict(state["precision"])
            self._step = int(state["step"])
        except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(
                f"{path}: cannot resume from this state ({first_line(error)}); "
                "use the model and data that it was made with"
            ) from None

    def _check_crops(self, model: SpeakerModel) -> None:
        samples, frames = self._batches.crop_samples, 0
        if samples >= model.front_end.min_samples:
            frames = self._features(torch.zeros(1, samples, device=self._fabric.device)).shape[2]
        if frames < model.network.min_frames:
            raise UserError(
                f"crop_seconds: {samples} samples are {frames} frames, and the network needs "
                f"{model.network.min_frames}, of {model.front_end.min_samples} samples; raise it"
            )

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Say in one line that another process has ended: it is the one that knows why."""
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
                raise UserError(
                    f"step {self._step}: another process of the training has ended; see what it says, and "
                    "start all of them again, with the same command, to go on from the last saved state"
                ) from None
            raise

    def _validate(self, report: Report, validate: Validate) -> None:
        """Measure the network in the first process, for which the others wait where they next meet."""
        if self._fabric.is_global_zero:
            self._network.eval()
            report(self._step, validate(self._network))

    def _remaining_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of this process from the current step on, prepared ahead by worker processes."""
        ranks, rank = self._fabric.world_size, self._fabric.global_rank
        numbers = range(self._step * ranks + rank, self._config.num_steps * ranks, ranks)
        nodes = getattr(self._fabric.strategy, "num_nodes", 1)  # a single process has none
        workers = _loader_workers(ranks // nodes)
        loader = DataLoader(
            self._batches, batch_size=None, sampler=numbers, num_workers=workers, prefetch_factor=4
        )
        try:
            for waveforms, labels in loader:
                yield self._fabric.to_device(waveforms), self._fabric.to_device(labels)
        except UserError as error:  # of the worker process, which adds its traceback to the message
            raise UserError(str(error).strip().splitlines()[-1].partition("Error: ")[2]) from None

    def _train_step(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, float]:
        """Take a step; returns its loss and the learning rate that it was taken with."""
        config = self._config
        waveforms, labels = batch
        torch.manual_seed(config.seed + self._step * self._fabric.world_size + self._fabric.global_rank)
        with torch.no_grad():
            features = self._spec_augment(self._features(waveforms))
        self._head.margin = config.margin_at(self._step)
        loss: Tensor = self._model(features, labels)
        self._fabric.backward(loss)
        norm = self._fabric.clip_gradients(
            self._model, self._optimizer, max_norm=config.gradient_clip, error_if_nonfinite=False
        )
        assert norm is not None
        if not norm.isfinite():
            raise UserError(f"step {self._step}: the gradient is {norm}; lower training.learning_rate")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        learning_rate = float(self._schedule.get_last_lr()[0])
        self._schedule.step()
        self._step += 1
        return loss, learning_rate

    def _mean_over_processes(self, loss: Tensor) -> float:
        mean = self._fabric.all_reduce(loss.detach(), reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean.item()

    def _learning_rate_factor(self, step: int) -> float:
        config = self._config
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        progress = (step - config.warmup_steps) / (config.num_steps - config.warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


def _loader_workers(processes: int) -> int:
    """Number of worker processes that prepare batches: the cores that the node's training processes leave."""
    return max(1, available_cpus() // processes - 1)
