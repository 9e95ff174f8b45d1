"""What a run's configuration names, opened: model, recordings with their trial list, ranges."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from speakerquant import schema_versions
from speakerquant.architectures.checkpoint_sources import checkpoint_path
from speakerquant.architectures.checkpoints import SpeakerModel, load_checkpoint, random_model
from speakerquant.architectures.registry import architecture_of, architecture_of_network, architectures
from speakerquant.architectures.speaker_network import Architecture, SpeakerNetwork
from speakerquant.architectures.units import Units
from speakerquant.audio.features import CachedFeatures, extract_features
from speakerquant.cache import Cache
from speakerquant.configuration.mask_options import NAME
from speakerquant.configuration.schema import (
    CacheConfig,
    CalibrationConfig,
    DataConfig,
    EngineConfig,
    ModelConfig,
    RoundingConfig,
    RoundingMethod,
    RunConfig,
    TrialList,
    flat,
    typed,
)
from speakerquant.corpus.evaluation_data import (
    EvaluationData,
    open_cohort,
    open_evaluation_data,
    open_synthetic_evaluation_data,
)
from speakerquant.corpus.recordings import open_recordings, speaker_from_mapping
from speakerquant.corpus.synthetic import DEVELOPMENT, TEST
from speakerquant.corpus.trial_sources import trial_list_path
from speakerquant.engine.backends import engine_builder
from speakerquant.engine.base import EngineBuilder
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtSettings
from speakerquant.errors import UserError
from speakerquant.files import digest
from speakerquant.measuring.baseline import Baseline, measured_baseline
from speakerquant.measuring.evaluate import Evaluation, Measurement
from speakerquant.measuring.preparation import prepare_evaluation
from speakerquant.measuring.protocol import Protocol
from speakerquant.progress import track
from speakerquant.quantization.calibration import calibrate, check_method
from speakerquant.quantization.hessians import Hessians, gather_hessians, load_hessians, save_hessians
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.named_masks import NONE, named_mask, swept_names
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding
from speakerquant.statistics.scores import ScoreNorm
from speakerquant.statistics.uncertainty import SpeakerBootstrap

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Everything that the masks of one configuration share.

    Attributes:
        model: The FP32 network with its front end.
        units: What masks give precisions to.
        builder: The engine's backend.
        weight_bits: Most bits of integer weights.
        data: The trial list and its recordings.
        protocol: How the list is scored.
        trial_list: Which list that is: without a development list, it is the test list that is tuned on.
        features: Features of the trial list's recordings.
        calibration: Features of the calibration recordings.
    """

    model: SpeakerModel
    units: Units
    builder: EngineBuilder
    weight_bits: int
    data: EvaluationData
    protocol: Protocol
    trial_list: TrialList
    features: CachedFeatures
    calibration: CachedFeatures


def open_cache(config: CacheConfig) -> Cache:
    """The cache of the configuration, or the user's."""
    return Cache(Path(config.root) if config.root else None)


def open_model(config: ModelConfig) -> SpeakerModel:
    """The checkpoint's network, or one with random weights.

    Raises:
        UserError: the checkpoint cannot be read, or there is neither checkpoint nor architecture.
        OmegaConfBaseException: the architecture has no such setting.
    """
    shape = _architecture(config)
    if config.checkpoint is not None:
        path = checkpoint_path(config.checkpoint)
        return load_checkpoint(path, shape and shape[1], config.family, config.front_end)
    if shape is None or config.front_end is None:
        raise UserError(
            "model.checkpoint: no checkpoint and no architecture; set one, such as model=ecapa_c1024"
        )
    return random_model(*shape, config.front_end, config.seed)


def _architecture(config: ModelConfig) -> tuple[Architecture, Any] | None:
    """The kind of network and its settings; none if the checkpoint is to tell."""
    if config.architecture is None:
        return None
    if config.network is None:
        names = ", ".join(known.name for known in architectures())
        raise UserError(f"model.architecture is set: set model.network too, to one of {names}")
    if not isinstance(config.architecture, Mapping) and not is_dataclass(config.architecture):
        raise UserError(f"model.architecture={config.architecture}: give settings, such as {{channels: 512}}")
    try:
        architecture = architecture_of(config.network)
    except UserError as error:
        raise UserError(f"model.network: {error}") from None
    settings = OmegaConf.merge(OmegaConf.structured(architecture.config), config.architecture)
    return architecture, OmegaConf.to_object(settings)


def open_mask(config: RunConfig, network: SpeakerNetwork) -> Mask:
    """The mask of a configuration: what its name means on the network, then precisions by unit or pattern.

    Raises:
        UserError: a name, a unit or a precision is unknown.
    """
    units, entries = network.units(config.units), mask_entries(config.mask)
    name = entries.pop(NAME, NONE)
    return Mask(units, entries, named_mask(name, units, architecture_of_network(network).named_masks))


def mask_entries(config: Any) -> dict[str, str]:
    """Name, and precision by unit or pattern, as given: keys nest where the names of units have dots."""
    return {key: str(value) for key, value in flat(config).items()}


def mask_words(config: Any) -> str:
    """The mask as a command line would say it."""
    return " ".join(value if key == NAME else f"{key}={value}" for key, value in mask_entries(config).items())


def swept_masks(config: DictConfig, sweep: Sequence[str]) -> list[str]:
    """The names of the masks that a sweep stands for on the configuration's network.

    Args:
        config: Composed as :class:`RunConfig`, of which only the network need be complete.
        sweep: As :func:`speakerquant.quantization.named_masks.swept_names` takes it.

    Raises:
        UserError: the network cannot be opened, or the baseline alone is left of the sweep.
    """
    network = open_model(typed(config.model, ModelConfig)).network
    names = swept_names(sweep, network.units(config.units), architecture_of_network(network).named_masks)
    if names == [NONE]:
        raise UserError(
            f"${{masks:{','.join(sweep)}}}: this network names no masks of its own; sweep its units, with "
            "experiment=per_unit"
        )
    return names


def open_inputs(config: RunConfig, model: SpeakerModel, cache: Cache) -> Inputs:
    """Open the recordings and extract their features, once it is clear that the engine runs the mask.

    Raises:
        UserError: a part of the configuration is missing, names nothing, or contradicts another.
    """
    tensorrt = config.engine if isinstance(config.engine, TensorRtSettings) else None
    builder = engine_builder(config.engine.name, tensorrt, cache)
    weight_bits = builder.weight_bits(config.engine.weight_bits)
    if config.engine.latency_requests < 0:
        raise UserError(
            f"engine.latency_requests={config.engine.latency_requests}: give how many to time; 0 times none"
        )
    if config.engine.fidelity_recordings < 1:
        raise UserError(
            f"engine.fidelity_recordings={config.engine.fidelity_recordings}: "
            "the engine must be checked on at least 1 recording"
        )
    if math.isnan(config.engine.min_fidelity):
        raise UserError("engine.min_fidelity=nan: give the smallest cosine that counts as agreement, below 1")
    channel = config.data.channel
    if channel is not None and channel < 1:
        raise UserError(f"data.channel={channel}: channels are counted from 1; null averages them")
    units = model.network.units(config.units)
    builder.check_mask(open_mask(config, model.network))
    check_method(config.calibration.method, config.calibration.percentile)
    Rounding(config.rounding.group_size)  # refuses impossible groups before there is anything to round
    trial_list = _trial_list(config)
    data = _open_data(config, trial_list, cache)
    return Inputs(
        model,
        units,
        builder,
        weight_bits,
        data,
        _protocol(config, data, model, cache),
        trial_list,
        _features(data.recordings, model, config.data, cache),
        _features(data.calibration, model, config.data, cache),
    )


def _features(
    recordings: Sequence[Path], model: SpeakerModel, config: DataConfig, cache: Cache
) -> CachedFeatures:
    extracted = extract_features(recordings, model.front_end, cache, config.channel)
    num_frames, fewest = extracted.features.num_frames, model.network.min_frames
    if min(num_frames) < fewest:
        path = recordings[int(np.argmin(num_frames))]
        raise UserError(
            f"{path}: {min(num_frames)} frames, and the network needs {fewest}; "
            "take the recording off the list"
        )
    return extracted


def _trial_list(config: RunConfig) -> TrialList:
    data = config.data
    if data.evaluate_on is TrialList.development and data.root is not None and not data.development_trials:
        log.warning("data.development_trials is not set: evaluating on the test list, data.trials")
        return TrialList.test
    return data.evaluate_on


def _open_data(config: RunConfig, trial_list: TrialList, cache: Cache) -> EvaluationData:
    data, calibration = config.data, config.calibration
    if data.root is None:
        given = (data.trials, data.development_trials, data.calibration_root, data.calibration_list)
        if any(given) or data.speakers:
            raise UserError(
                "data.root is not set, so the rest of data has no meaning; set it, with data=folder"
            )
        split = DEVELOPMENT if trial_list is TrialList.development else TEST
        if data.num_speakers is not None:
            if data.num_speakers < 2:
                raise UserError(f"data.num_speakers={data.num_speakers}: a trial list needs at least 2")
            split = replace(split, num_speakers=data.num_speakers)
        return open_synthetic_evaluation_data(
            split,
            data.seed,
            cache,
            num_calibration=calibration.num_recordings,
            calibration_seed=calibration.seed,
        )
    if data.num_speakers is not None:
        raise UserError("data.num_speakers is for the synthetic corpus, and data.root is set; leave one out")
    if data.trials is None or data.calibration_root is None:
        raise UserError("data.root is set: set data.trials and data.calibration_root too")
    trials = data.development_trials if trial_list is TrialList.development else data.trials
    assert trials is not None
    speaker_of = speaker_from_mapping(Path(data.speakers)) if data.speakers else None
    return open_evaluation_data(
        open_recordings(Path(data.root), speaker_of),
        trial_list_path(trials, cache),
        open_recordings(Path(data.calibration_root), speaker_of),
        num_calibration=calibration.num_recordings,
        calibration_seed=calibration.seed,
        calibration_list=Path(data.calibration_list) if data.calibration_list else None,
        keep_repeated_trials=data.keep_repeated_trials,
    )


def _protocol(config: RunConfig, data: EvaluationData, model: SpeakerModel, cache: Cache) -> Protocol:
    scoring = config.scoring
    if scoring.cohort_root is None:
        return Protocol(scoring.norm, scoring.top_n, None, scoring.p_targets)
    if scoring.norm is ScoreNorm.none:
        raise UserError(
            "scoring.cohort_root is set, and scoring.norm=none has no use for it; choose scoring=as_norm"
        )
    cohort = open_cohort(
        open_recordings(Path(scoring.cohort_root), data.source.speaker_of if config.data.speakers else None),
        Path(scoring.cohort) if scoring.cohort else None,
        data.source,
        data.trials,
    )
    features = _features(cohort, model, config.data, cache)
    return Protocol(scoring.norm, scoring.top_n, features, scoring.p_targets)


def open_ranges(config: CalibrationConfig, inputs: Inputs, cache: Cache) -> CalibrationTable:
    """Ranges of every layer: measured once per checkpoint, calibration recordings and method."""

    def make(path: Path) -> None:
        features = inputs.calibration.features
        recordings = track(features, "calibration", total=len(features))
        with inputs.calibration.in_memory():
            table = calibrate(
                inputs.model.network, map(torch.from_numpy, recordings), config.method, config.percentile
            )
        table.save(path)

    key = digest(
        schema_versions.RANGES,
        inputs.model.digest,
        inputs.calibration.digest,
        config.method,
        config.percentile,
    )
    return CalibrationTable.load(cache.get("ranges", key, make, suffix=".safetensors"))


def open_rounding(config: RoundingConfig, inputs: Inputs, cache: Cache) -> Rounding:
    """How weights of fewer than eight bits become integers.

    Hessians are gathered once per checkpoint and calibration recordings, and only when a mask needs them.

    Raises:
        UserError: an impossible size of groups.
    """
    identity = [inputs.model.digest]
    if config.method is RoundingMethod.nearest:
        return Rounding(config.group_size, cache=cache, identity=identity)
    key = digest(schema_versions.HESSIANS, inputs.model.digest, inputs.calibration.digest)

    def make(path: Path) -> None:
        features = inputs.calibration.features
        recordings = track(features, "Hessians", total=len(features))
        with inputs.calibration.in_memory():
            save_hessians(gather_hessians(inputs.model.network, map(torch.from_numpy, recordings)), path)

    def gather() -> Hessians:
        return load_hessians(cache.get("hessians", key, make, suffix=".safetensors"))

    return Rounding(config.group_size, gather, cache, [*identity, key])


def open_bootstrap(inputs: Inputs) -> SpeakerBootstrap:
    """Draws of the speakers of the trial list.

    Raises:
        UserError: the list is of one speaker.
    """
    trials, speakers = inputs.data.trials, inputs.data.speakers
    return SpeakerBootstrap(speakers[trials.left], speakers[trials.right], trials.labels)


def digests_of(inputs: Inputs) -> dict[str, str]:
    """What was measured on what, by the names of MLflow's parameters."""
    return {
        "digest.checkpoint": inputs.model.digest,
        "digest.trials": inputs.data.trials_digest,
        "digest.recordings": inputs.features.digest,
        "digest.cohort": inputs.protocol.cohort_digest,
    }


def open_baseline(inputs: Inputs, evaluation: Evaluation, known: Measurement | None = None) -> Baseline:
    """What masks on these inputs are compared with, from the cache or measured now.

    Args:
        inputs: What the masks share.
        evaluation: What measures them.
        known: A measurement of the baseline's mask, should there be one.
    """
    identity = [digests_of(inputs), inputs.protocol.identity]
    return measured_baseline(evaluation, inputs.units, identity, known)


def open_evaluation(
    config: EngineConfig,
    inputs: Inputs,
    table: CalibrationTable,
    cache: Cache,
    rounding: Rounding | None = None,
) -> Evaluation:
    """What measures masks on these inputs."""
    return prepare_evaluation(
        inputs.model,
        table,
        inputs.builder,
        cache,
        recordings=inputs.features,
        trials=inputs.data.trials,
        protocol=inputs.protocol,
        calibration=inputs.calibration.features,
        max_weight_bits=inputs.weight_bits,
        fidelity_recordings=config.fidelity_recordings,
        min_fidelity=config.min_fidelity,
        latency_requests=config.latency_requests,
        rounding=rounding,
    )
