"""Schemas of what measures and trains, registered with Hydra so that each key and type is checked."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import MISSING, OmegaConf

from speakerquant.architectures.family import AUTO
from speakerquant.architectures.registry import architectures
from speakerquant.architectures.units import Granularity
from speakerquant.audio.front_end import FrontEnd
from speakerquant.configuration.mask_options import register_mask_options
from speakerquant.configuration.tracking_schema import TrackingConfig
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtRtxSettings, TensorRtSettings
from speakerquant.quantization.rounding_method import RoundingMethod
from speakerquant.recovery.settings import RecoverySettings
from speakerquant.statistics.score_norm import ScoreNorm
from speakerquant.training.hyperparameters import AugmentationConfig, TrainingConfig


@dataclass
class CacheConfig:
    root: str | None = None


@dataclass
class ModelConfig:
    """``architecture`` holds settings of ``network``, whose own dataclass checks them.

    ``checkpoint`` null means random weights. Unset it is refused: over null, ``???`` would have no effect.
    """

    checkpoint: str | None = MISSING
    network: str | None = None
    architecture: Any = None
    front_end: FrontEnd | None = None
    family: str = AUTO
    seed: int = 0


class TrialList(Enum):
    """Which trial list a run is measured on."""

    test = auto()
    development = auto()


@dataclass
class DataConfig:
    """``root`` null means the synthetic corpus of ``seed``, with so many speakers in a list."""

    root: str | None = MISSING
    trials: str | None = MISSING
    development_trials: str | None = None
    development_root: str | None = None
    keep_repeated_trials: bool = False
    evaluate_on: TrialList = TrialList.test
    calibration_root: str | None = MISSING
    calibration_list: str | None = None
    speakers: str | None = None
    conditions: str | None = None
    channel: int | None = None
    seed: int = 0
    num_speakers: int | None = None


@dataclass
class CalibrationConfig:
    method: str = MISSING
    percentile: float = MISSING
    num_recordings: int = MISSING
    seed: int = MISSING


@dataclass
class RoundingConfig:
    method: RoundingMethod = MISSING
    num_recordings: int = MISSING
    root: str | None = None


@dataclass
class ScoringConfig:
    norm: ScoreNorm = MISSING
    top_n: int = MISSING
    cohort_root: str | None = MISSING
    cohort: str | None = MISSING
    p_targets: list[float] = MISSING
    false_accepts: list[float] = MISSING


@dataclass
class EngineConfig:
    name: str = MISSING
    weight_bits: str = MISSING
    min_fidelity: float = MISSING
    fidelity_recordings: int = MISSING
    latency_requests: int = MISSING


@dataclass
class TensorRtConfig(TensorRtSettings, EngineConfig):
    """With the settings of TensorRT, which only some engines have."""


@dataclass
class TensorRtRtxConfig(TensorRtRtxSettings, EngineConfig):
    """With the settings of TensorRT for RTX."""


@dataclass
class FrontConfig:
    """What the mask that a front recommends must keep to."""

    size_ratio: float | None = None
    size_bytes: float | None = None
    latency_ms: float | None = None
    delta_eer_high: float | None = None
    worst_group_delta_eer_high: float | None = None


@dataclass
class SpaceConfig:
    """What a search chooses from, for every unit of the network."""

    precisions: list[str] = field(default_factory=list)


@dataclass
class RunConfig:
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    calibration: CalibrationConfig = MISSING
    rounding: RoundingConfig = MISSING
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    units: Granularity = Granularity.block
    mask: Any = MISSING  # a name, and precisions by unit: which there are, the network says
    engine: EngineConfig = MISSING
    scoring: ScoringConfig = MISSING
    tracking: TrackingConfig = MISSING
    cache: CacheConfig = field(default_factory=CacheConfig)
    front: FrontConfig = field(default_factory=FrontConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)


@dataclass
class TrainingDataConfig:
    root: str | None = None
    synthetic_share: float = MISSING


@dataclass
class ValidationConfig:
    root: str | None = None
    trials: str | None = None


@dataclass
class TrainConfig:
    model: ModelConfig = MISSING
    training_data: TrainingDataConfig = MISSING
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = MISSING
    tracking: TrackingConfig = MISSING
    cache: CacheConfig = field(default_factory=CacheConfig)
    batch_size: int = MISSING
    crop_seconds: float = MISSING
    corpus_seed: int = 0
    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1
    precision: Any = "auto"
    output: str = MISSING


def register_schemas() -> None:
    """Make the schemas known to Hydra; the files in ``conf/`` build on them."""
    store = ConfigStore.instance()
    store.store("run_schema", RunConfig)
    # Which units there are is the network's affair: unknown ones reach the mask, which lists the valid ones.
    store.store("any_unit", OmegaConf.create({}, flags={"struct": False}), group="base/mask", package="mask")
    # The settings of a network are keys only where its architecture is chosen.
    for architecture in architectures():
        store.store(architecture.name, architecture.config, group="base/model", package="model.architecture")
    register_mask_options()
    # The settings of TensorRT are keys only where the engine may be TensorRT.
    store.store("tensorrt", TensorRtConfig, group="base/engine", package="engine")
    store.store("tensorrt_rtx", TensorRtRtxConfig, group="base/engine", package="engine")
    store.store("train_schema", TrainConfig)
    _forget_launchers_of_others(store)


def _forget_launchers_of_others(store: ConfigStore) -> None:
    """Drop hydra-submitit-launcher's options, in which Hydra would see schemas of ours of the same names."""
    Plugins.instance()  # imports every plugin, which then stores its options
    launchers = store.repo["hydra"]["launcher"]
    for name in ("submitit_local", "submitit_slurm"):
        launchers.pop(f"{name}.yaml", None)
