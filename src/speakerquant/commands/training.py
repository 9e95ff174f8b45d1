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
    batches = TrainingBatches(
        _sources(config, cache),
        Augmentation(config.augmentation, model.front_end.sample_rate),
        sample_rate=model.front_end.sample_rate,
        batch_size=config.batch_size,
        crop_seconds=config.crop_seconds,
        seed=config.training.seed,
    )
    validate = _validation(config, cache, model)
    trainer = Trainer(fabric, model, batches, config.training, _decisive(params))
    if fabric.broadcast(state.exists()):  # on a shared file system not all processes see it at once
        trainer.load(state)
        log.info("resuming from %s", state)
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
    record = _beside(output, ".run")
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


def _validation(config: TrainConfig, cache: Cache, model: SpeakerModel) -> Validate:
    if config.validation.root is None:
        if config.validation.trials is not None:
            raise UserError("validation.trials is set: set validation.root too, the folder of its recordings")
        root = synthesize_split(DEVELOPMENT, config.corpus_seed, cache)
        trials_path = root / TRIALS_FILE
    elif config.validation.trials is None:
        raise UserError("validation.trials: no trial list for validation.root; set it")
    else:
        root, trials_path = Path(config.validation.root), Path(config.validation.trials)
    with said_as({"data.trials": "validation.trials", "data.root": "validation.root"}):
        recordings = open_recordings(root)
        trials = read_trials(trials_path, recordings, keep_repeated=True)
    paths = list(map(recordings.path_of, trials.recordings))
    features = extract_features(paths, model.front_end, cache).features
    check_frames(model.network, paths, features.num_frames)

    def validate(network: SpeakerNetwork) -> Mapping[str, float]:
        scores = cosine_scores(embed_with_network(network, features), trials.left, trials.right)
        return {"validation_eer": eer(scores, trials.labels)}

    return validate
