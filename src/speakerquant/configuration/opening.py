"""Reads a run's configuration: what it names becomes the objects of the library."""

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.checkpoint_sources import checkpoint_path
from speakerquant.architectures.checkpoints import SpeakerModel, is_onnx_file, load_checkpoint, random_model
from speakerquant.architectures.layers import geometries
from speakerquant.architectures.registry import architecture_of, architecture_of_network, architectures
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.cache import Cache
from speakerquant.configuration.conversion import flat, typed
from speakerquant.configuration.mask_options import NAME
from speakerquant.configuration.schema import (
    CacheConfig,
    DataConfig,
    ModelConfig,
    RunConfig,
    TrialList,
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
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtSettings
from speakerquant.errors import UserError, said_as
from speakerquant.measuring.evaluator import MaskEvaluator
from speakerquant.measuring.protocol import Protocol
from speakerquant.measuring.settings import EvaluationSettings
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.named_masks import NONE, named_mask, swept_names
from speakerquant.statistics.score_norm import ScoreNorm
from speakerquant.statistics.uncertainty import FEWEST_SPEAKERS

log = logging.getLogger(__name__)


def open_cache(config: CacheConfig) -> Cache:
    """The cache of the configuration, or the user's."""
    return Cache(Path(config.root) if config.root else None)


def open_model(config: ModelConfig, cache: Cache) -> SpeakerModel:
    """The checkpoint's network, or one with random weights.

    Raises:
        UserError: the checkpoint cannot be read, there is neither checkpoint nor architecture, or a setting
            of the front end has no effect.
        OmegaConfBaseException: the architecture has no such setting.
    """
    shape = _architecture(config)
    if config.front_end is not None:
        config.front_end.check_settings()
    if config.checkpoint is not None:
        path = checkpoint_path(config.checkpoint, cache)
        front_end = None if shape else config.front_end  # beside an architecture it is for random weights
        model = load_checkpoint(path, shape and shape[1], config.family, front_end)
        if is_onnx_file(path):
            from speakerquant.engine.onnxruntime.converted_network import (
                check_converted,  # only these need it
            )

            check_converted(model.network)
        return model
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
    """Name, and precision by unit or pattern, as given: keys may nest where the names of units have dots.

    Raises:
        UserError: a name stands in the place of the entries, where it would replace what was chosen before.
    """
    if not isinstance(config, Mapping):
        raise UserError(
            f"mask: {config} stands in the place of the mask's entries; a file that chooses a mask writes "
            f'"defaults: [override /mask: {config}]"'
        )
    return {key: str(value) for key, value in flat(config).items()}


def check_mask_keys(keys: Iterable[str]) -> None:
    """Refuse a module beside a part of it: that the part decides, wherever it stands, is for files to say.

    Args:
        keys: Of any settings, such as ``mask.block`` and ``mask.block.conv``.

    Raises:
        UserError: there are two such.
    """
    masked = [key for key in keys if key.startswith("mask.")]
    for module, part in itertools.permutations(masked, 2):
        if part.startswith(f"{module}."):
            raise UserError(
                f"{module} and {part}: a command sets one of a module and its part; write the module into a "
                "file of conf/mask, and set the part beside it"
            )


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
    cache = open_cache(typed(config.cache, CacheConfig))
    network = open_model(typed(config.model, ModelConfig), cache).network
    names = swept_names(sweep, network.units(config.units), architecture_of_network(network).named_masks)
    if names == [NONE]:
        raise UserError(
            f"${{masks:{','.join(sweep)}}}: this network names no masks of its own; sweep its units, with "
            "experiment=per_unit"
        )
    return names


def open_evaluator(config: RunConfig, model: SpeakerModel, cache: Cache) -> MaskEvaluator:
    """What evaluates masks, with the recordings found once it is clear that the engine runs the mask.

    Raises:
        UserError: a part of the configuration is missing, names nothing, or contradicts another.
    """
    tensorrt = config.engine if isinstance(config.engine, TensorRtSettings) else None
    builder = engine_builder(config.engine.name, tensorrt, cache)
    builder.expect_many_engines()
    settings = EvaluationSettings(
        units=config.units,
        method=config.calibration.method,
        percentile=config.calibration.percentile,
        rounding=config.rounding.method,
        rounding_recordings=config.rounding.num_recordings,
        recovery=config.recovery,
        weight_bits=builder.weight_bits(config.engine.weight_bits),
        min_fidelity=config.engine.min_fidelity,
        fidelity_recordings=config.engine.fidelity_recordings,
        latency_requests=config.engine.latency_requests,
        channel=config.data.channel,
    )
    builder.check_mask(open_mask(config, model.network), geometries(model.network))
    trial_list = evaluated_list(config.data)
    if trial_list is not config.data.evaluate_on:
        log.warning("data.development_trials is not set: evaluating on the test list, data.trials")
    data = _open_data(config.data, config, trial_list, cache)
    protocol = _open_protocol(config, data, trial_list)
    development = _development(config, trial_list, cache)
    return MaskEvaluator(model, data, builder, cache, protocol, settings, trial_list.name, development)


def evaluated_list(data: DataConfig) -> TrialList:
    """The list that masks are evaluated on: the test list where there is no other."""
    return data.evaluate_on if _has_development_list(data) else TrialList.test


def _has_development_list(data: DataConfig) -> bool:
    return data.root is None or bool(data.development_trials)


def root_of(data: DataConfig, trial_list: TrialList) -> str | None:
    """Where the recordings of a list are; none for the synthetic corpus."""
    is_development = trial_list is TrialList.development
    return data.development_root if is_development and data.development_root else data.root


def _development(
    config: RunConfig, trial_list: TrialList, cache: Cache
) -> Callable[[], EvaluationData] | None:
    """Opens the list that thresholds are from, where it is another than the one that is evaluated on."""
    data = config.data
    if data.development_root and not data.development_trials:
        raise UserError("data.development_root is set: set data.development_trials too")
    if trial_list is TrialList.development or not _has_development_list(data):
        return None
    data = replace(data, conditions=None)  # which are of the list that is evaluated on
    if data.num_speakers is not None:  # thresholds need no more speakers than the list has by default
        data = replace(data, num_speakers=min(data.num_speakers, DEVELOPMENT.num_speakers))

    def opened() -> EvaluationData:
        development = _open_data(data, config, TrialList.development, cache)
        # A cohort of its speakers would lower its thresholds.
        _open_protocol(config, development, TrialList.development)
        return development

    return opened


def _names_of(trial_list: TrialList, data: DataConfig) -> Mapping[str, str]:
    """What a list, its setting and that of its folder are called, by what errors call those to test on."""
    if trial_list is TrialList.test:
        return {}
    names = {"the trial list": "the development list", "data.trials": "data.development_trials"}
    return {**names, "data.root": "data.development_root"} if data.development_root else names


def _open_data(data: DataConfig, config: RunConfig, trial_list: TrialList, cache: Cache) -> EvaluationData:
    calibration, rounding = config.calibration, config.rounding
    is_development = trial_list is TrialList.development
    if data.root is None:
        lists = (data.trials, data.development_trials, data.calibration_root, data.calibration_list)
        others = (data.speakers, data.development_root, data.conditions, data.keep_repeated_trials)
        if any((*lists, *others)):
            raise UserError(
                "data.root is not set, so the rest of data has no meaning; set it, with data=folder"
            )
        split = DEVELOPMENT if is_development else TEST
        if data.num_speakers is not None:
            if data.num_speakers < FEWEST_SPEAKERS:
                raise UserError(
                    f"data.num_speakers={data.num_speakers}: a trial list needs at least {FEWEST_SPEAKERS}"
                )
            split = replace(split, num_speakers=data.num_speakers)
        return open_synthetic_evaluation_data(
            split,
            data.seed,
            cache,
            num_calibration=calibration.num_recordings,
            calibration_seed=calibration.seed,
            rounding=open_recordings(Path(rounding.root)) if rounding.root else None,
            num_rounding=rounding.num_recordings,
        )
    if data.num_speakers is not None or data.seed:
        name = "seed" if data.seed else "num_speakers"
        raise UserError(f"data.{name} is for the synthetic corpus, and data.root is set; leave one out")
    if data.trials is None or data.calibration_root is None:
        raise UserError("data.root is set: set data.trials and data.calibration_root too")
    trials = data.development_trials if is_development else data.trials
    root = root_of(data, trial_list)
    assert trials is not None and root is not None
    speaker_of = speaker_from_mapping(Path(data.speakers)) if data.speakers else None
    with said_as(_names_of(trial_list, data)):
        return open_evaluation_data(
            open_recordings(Path(root), speaker_of),
            trial_list_path(trials, cache),
            open_recordings(Path(data.calibration_root), speaker_of),
            num_calibration=calibration.num_recordings,
            calibration_seed=calibration.seed,
            calibration_list=Path(data.calibration_list) if data.calibration_list else None,
            rounding=open_recordings(Path(rounding.root), speaker_of) if rounding.root else None,
            num_rounding=rounding.num_recordings,
            keep_repeated_trials=data.keep_repeated_trials,
            conditions=Path(data.conditions) if data.conditions else None,
        )


def _open_protocol(config: RunConfig, data: EvaluationData, trial_list: TrialList) -> Protocol:
    scoring = config.scoring
    judged = (scoring.p_targets, scoring.false_accepts)
    if scoring.cohort_root is None:
        if scoring.cohort:
            raise UserError(
                "scoring.cohort is set: set scoring.cohort_root too, the folder of its recordings"
            )
        return Protocol(scoring.norm, scoring.top_n, None, *judged)
    if scoring.norm is ScoreNorm.none:
        raise UserError(
            "scoring.cohort_root is set, and scoring.norm=none has no use for it; choose scoring=as_norm"
        )
    speaker_of = data.source.speaker_of if config.data.speakers else None
    with said_as(_names_of(trial_list, config.data)):
        cohort = open_cohort(
            open_recordings(Path(scoring.cohort_root), speaker_of),
            Path(scoring.cohort) if scoring.cohort else None,
            data.source,
            data.trials,
        )
    return Protocol(scoring.norm, scoring.top_n, cohort, *judged)
