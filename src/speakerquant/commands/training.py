"""The training that a configuration describes, recorded in MLflow."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import get_args

import torch
from lightning_fabric import Fabric

from speakerquant.architectures.checkpoint_sources import checkpoint_path
from speakerquant.architectures.checkpoints import SpeakerModel, save_checkpoint
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.audio.features import extract_features
from speakerquant.cache import Cache
from speakerquant.configuration.opening import open_cache, open_model
from speakerquant.configuration.schema import TrainConfig
from speakerquant.corpus.recordings import open_recordings
from speakerquant.corpus.synthetic import DEVELOPMENT, TRAIN, TRIALS_FILE, synthesize_split
from speakerquant.corpus.trial_sources import trial_list_path
from speakerquant.corpus.trials import read_trials
from speakerquant.errors import UserError, first_line, said_as
from speakerquant.files import atomic_path
from speakerquant.measuring.embedding import check_frames, embed_with_network
from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.scores import cosine_scores
from speakerquant.tracking.client import Tracking, connect
from speakerquant.tracking.runs import TrackedRun, close_dead_run, tracked_run
from speakerquant.training.augmentation import Augmentation
from speakerquant.training.batches import SpeechSource, TrainingBatches
from speakerquant.training.hyperparameters import TrainingConfig
from speakerquant.training.trainer import FabricPrecision, Trainer, Validate, choose_precision

_AUTO = "auto"  # the precision that is fast there
_DECISIVE = ("training.", "augmentation.", "training_data.", "corpus_seed", "batch_size", "crop_seconds")
_OF_NO_CONSEQUENCE = {"training.num_steps", "training.report_every", "training.validate_every"}

log = logging.getLogger(__name__)


def train(config: TrainConfig, params: Mapping[str, object]) -> None:
    """Train and validate the configured model, and write the checkpoint to ``config.output``.

    Training begins from the weights of ``config.model.checkpoint``, if there is one. The trainer's state is
    kept beside the output (``.state``); a training that finds one goes on from it.

    Raises:
        UserError: see the modules that it calls.
    """
    cache = open_cache(config.cache)
    output = _output(config, cache)
    output.parent.mkdir(parents=True, exist_ok=True)
    state = _beside(output, ".state")
    fabric = _launched_fabric(config)
    tracking = connect(config.tracking.uri, config.tracking.experiment) if fabric.is_global_zero else None
    model = open_model(config.model, cache)
    augmentation = Augmentation(config.augmentation, model.front_end.sample_rate)
    batches = TrainingBatches(
        _sources(config, cache),
        augmentation,
        sample_rate=model.front_end.sample_rate,
        batch_size=config.batch_size,
        crop_seconds=config.crop_seconds,
        seed=config.training.seed,
    )
    _say_where_the_margin_ends(config.training)
    validate = _validation(config, cache, model, batches)
    precision = {"precision": fabric.strategy.precision.precision}  # which auto came to
    settings = {**_decisive(params), **augmentation.folders, **precision}
    trainer = Trainer(fabric, model, batches, config.training, settings)
    if fabric.broadcast(state.exists()):  # on a shared file system not all processes see it at once
        trainer.load(state)
        log.info("resuming from %s", state)
    if fabric.is_global_zero and not trainer.steps_left and _is_of(state, output):
        log.warning(
            "%s: already trained to step %d, nothing left; raise training.num_steps or set another output",
            *(output, config.training.num_steps),
        )
        return
    with _tracked(tracking, output) if tracking else nullcontext() as run:
        if run:
            run.log(params=params)

        def report(step: int, metrics: Mapping[str, float]) -> None:
            if run:
                log.info(
                    "step %d: %s", step, ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
                )
                run.log(metrics=metrics, step=step)

        trainer.fit(state, report, validate)
        if run:
            save_checkpoint(output, model.network, model.front_end)
            run.log_artifact(output)


def _decisive(params: Mapping[str, object]) -> dict[str, object]:
    """The settings that decide a training's course; folders may move, and more steps may follow."""
    return {
        name: value
        for name, value in params.items()
        if name.startswith(_DECISIVE) and name not in _OF_NO_CONSEQUENCE and not name.endswith("root")
    }


def _launched_fabric(config: TrainConfig) -> Fabric:
    """Processes that know each other: started by SLURM's srun, by torchrun, or, on one node, from here."""
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    if config.precision not in (_AUTO, *(known := get_args(FabricPrecision))):
        raise UserError(f"precision={config.precision}: unknown; valid are {', '.join([_AUTO, *known])}")
    try:
        fabric = Fabric(
            accelerator=config.accelerator,
            devices=config.devices if on_gpu or config.devices != "auto" else 1,
            num_nodes=config.num_nodes,
            precision=choose_precision("cuda" if on_gpu else "cpu")
            if config.precision == _AUTO
            else config.precision,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"accelerator, devices, num_nodes or precision: {first_line(error)}") from None
    try:
        fabric.launch()
    except RuntimeError as error:
        raise UserError(
            f"the processes of the training do not find each other: {first_line(error)}; check num_nodes, "
            "devices and the network, then start all of them again"
        ) from None
    return fabric


@contextmanager
def _tracked(tracking: Tracking, output: Path) -> Iterator[TrackedRun]:
    """A run for this part of the training; that of an earlier part whose process died is closed."""
    record = _record(output)
    if record.exists():
        close_dead_run(tracking, record.read_text(encoding="utf-8"))
    with tracked_run(tracking, f"train-{output.stem}") as run:
        with atomic_path(record) as part:
            part.write_text(run.run_id, encoding="utf-8")
        try:
            yield run
        finally:
            record.unlink(missing_ok=True)


def _output(config: TrainConfig, cache: Cache) -> Path:
    output = Path(config.output)
    checkpoint = config.model.checkpoint
    if checkpoint is not None and checkpoint_path(checkpoint, cache).resolve() == output.resolve():
        raise UserError(f"output={output}: this is model.checkpoint itself; set another output")
    if output.is_dir():
        raise UserError(
            f"output={output}: a folder; name the file to write, such as {output / 'model'}.safetensors"
        )
    return output


def _beside(output: Path, suffix: str) -> Path:
    """The file that goes with an output: ``a.state`` with ``a.safetensors``, ``a.v1.state`` with ``a.v1``."""
    return output.with_name(output.name.removesuffix(".safetensors") + suffix)


def _record(output: Path) -> Path:
    """The file that tells the MLflow run of a training that goes on, or whose process died."""
    return _beside(output, ".run")


def _is_of(state: Path, output: Path) -> bool:
    """Whether the output was written after the state, and the run that wrote it was closed."""
    is_later = output.exists() and output.stat().st_mtime >= state.stat().st_mtime
    return is_later and not _record(output).exists()


def _say_where_the_margin_ends(config: TrainingConfig) -> None:
    if (reached := config.margin_at(config.num_steps - 1)) < config.margin:
        log.warning(
            "training.num_steps=%d: the margin of the loss ends at %.3g instead of training.margin=%g; lower "
            "training.margin_start_step and training.margin_full_step=%d, or take more steps",
            *(config.num_steps, reached, config.margin, config.margin_full_step),
        )


def _sources(config: TrainConfig, cache: Cache) -> list[SpeechSource]:
    share, root = config.training_data.synthetic_share, config.training_data.root
    if not 0.0 <= share <= 1.0:
        raise UserError(f"training_data.synthetic_share={share}: must lie between 0 and 1")
    if share < 1.0 and root is None:
        raise UserError("training_data.root: no folder of recordings; set it, or synthetic_share to 1")
    if share == 1.0 and root is not None:
        raise UserError(
            "training_data.root is set, but nothing is read from it; set training_data.synthetic_share < 1"
        )
    sources = []
    if share > 0.0:
        sources.append(SpeechSource(synthesize_split(TRAIN, config.corpus_seed, cache), share))
    if share < 1.0 and root is not None:
        sources.append(SpeechSource(Path(root), 1.0 - share))
    return sources


def _validation(config: TrainConfig, cache: Cache, model: SpeakerModel, batches: TrainingBatches) -> Validate:
    if config.validation.root is None:
        if config.validation.trials is not None:
            raise UserError("validation.trials is set: set validation.root too, the folder of its recordings")
        root = synthesize_split(DEVELOPMENT, config.corpus_seed, cache)
        trials_path = root / TRIALS_FILE
    elif config.validation.trials is None:
        raise UserError("validation.trials: no trial list for validation.root; set it")
    else:
        root, trials_path = Path(config.validation.root), trial_list_path(config.validation.trials, cache)
    with said_as({"data.trials": "validation.trials", "data.root": "validation.root"}):
        recordings = open_recordings(root)
        trials = read_trials(trials_path, recordings, keep_repeated=True)
    if config.validation.root and config.training_data.root:
        validated = {recordings.speaker_of(name) for name in trials.recordings}
        if known := validated & batches.speakers[-1]:
            log.warning(
                "validation.trials: %d of its %d speakers, such as %s, are in training_data.root, too: their "
                "EER says little of speakers that the network does not know",
                *(len(known), len(validated), min(known)),
            )
    paths = list(map(recordings.path_of, trials.recordings))
    features = extract_features(paths, model.front_end, cache).features
    check_frames(model.network, paths, features.num_frames)

    def validate(network: SpeakerNetwork) -> Mapping[str, float]:
        scores = cosine_scores(embed_with_network(network, features), trials.left, trials.right)
        return {"validation_eer": eer(scores, trials.labels)}

    return validate
