"""What ``speakerquant`` adds to a search over its configuration."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution

from speakerquant import schema_versions
from speakerquant.architectures.layers import geometries
from speakerquant.architectures.published_results import PublishedResults
from speakerquant.architectures.registry import architecture_of_network
from speakerquant.architectures.units import Units, enclosing
from speakerquant.audio.features import speech_digest
from speakerquant.cache import Cache
from speakerquant.configuration.conversion import typed
from speakerquant.configuration.opening import check_mask_keys, open_cache, open_mask
from speakerquant.configuration.schema import EngineConfig, FrontConfig, RunConfig, TrialList
from speakerquant.configuration.sharing import MULTIRUN
from speakerquant.engine.backends import ENGINES, engine_builder
from speakerquant.engine.base import EngineBuilder
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtSettings
from speakerquant.errors import UserError
from speakerquant.mask_search.choices import MASK_AXIS, Choices, stored_differently
from speakerquant.mask_search.front_plan import LOSS_HIGH, RATIO, SIZE
from speakerquant.mask_search.warm_start import MaskWarmStart
from speakerquant.measuring.engine_metrics import LATENCY, LATENCY_P95
from speakerquant.measuring.evaluator import MaskEvaluator
from speakerquant.measuring.result import DIGESTS, SWAP_PREFIX, metric_of
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import precision_of
from speakerquant.report.mask_view import MaskNames, MaskView
from speakerquant.report.run_names import SET_BY
from speakerquant.search.application import Observer, SearchApplication
from speakerquant.search.goals import Goals
from speakerquant.search.ledger import Ledger
from speakerquant.search.search_loop import FirstPoints
from speakerquant.search.space import Point, Space
from speakerquant.statistics.group_metrics import WORST_HIGH
from speakerquant.statistics.metric import Direction, is_interval_end
from speakerquant.tracking.client import connect, is_file
from speakerquant.tracking.recorded_runs import DIGESTS_IN_WORDS
from speakerquant.tracking.study import StudyRun

log = logging.getLogger(__name__)

_LATENCY_REQUESTS = "engine.latency_requests=20"
_FEWEST_SPEAKERS = 10  # with fewer nobody has checked what the intervals hold (docs/uncertainty.md)


class MaskSearchApplication(SearchApplication):
    """Searches :class:`speakerquant.configuration.schema.RunConfig`, masks above all."""

    def __init__(self) -> None:
        # As the fingerprint found it: reading a corpus takes a while.
        self._evaluator: MaskEvaluator | None = None
        self._inputs: Mapping[str, str] = {}
        self._final_inputs: Mapping[str, str] = {}
        self._searched: set[str] = set()  # groups of the configuration

    def params(self, config: DictConfig, given: Collection[str]) -> Mapping[str, str]:
        """For every unit of the network that is not given, by itself or with others, what ``space`` names.

        Of precisions that store a unit's weights alike, as its layers have no larger groups, the first stays.
        """
        check_mask_keys(given)
        run = typed(config, RunConfig)
        try:
            precisions = [precision_of(name) for name in run.space.precisions]
        except UserError as error:
            raise UserError(f"space.precisions: {error}") from None
        if not precisions:
            return {}
        network = MULTIRUN.model(run.model, open_cache(run.cache)).network
        layers = geometries(network)

        def sweep(unit: Sequence[str]) -> str:
            choices = stored_differently(precisions, [layers[layer] for layer in unit])
            return f"choice({','.join(map(str, choices))})" if len(choices) > 1 else str(choices[0])

        units = network.units(run.units)
        return {f"mask.{unit}": sweep(units[unit]) for unit in units if not _is_set(unit, given)}

    def is_time(self, name: str) -> bool:
        metric = metric_of(name)
        return metric is not None and metric.is_time

    def _is_cost(self, name: str) -> bool:
        return name in (SIZE, RATIO) or self.is_time(name)

    def goals(self, config: DictConfig, goals: Goals) -> Goals:
        """The goals with the budgets of ``front``; within a size or a time the least loss is wanted."""
        budgets = _budgets(typed(config, RunConfig).front)
        for name in budgets.keys() & goals.constraints.keys():
            if budgets[name] != goals.constraints[name]:
                raise UserError(
                    f"hydra.sweeper.constraints.{name}={goals.constraints[name]:g} and front.{name}="
                    f"{budgets[name]:g}: two bounds on one number; set front.{name} alone"
                )
        constraints = {**goals.constraints, **budgets}
        is_within = any(map(self._is_cost, constraints))
        order = sorted(goals.objectives, key=lambda name: is_within and self._is_cost(name))
        return Goals({name: goals.objectives[name] for name in order}, constraints)

    def fingerprint(self, config: DictConfig, space: Space, goals: Goals) -> Mapping[str, str]:
        run = typed(config, RunConfig)
        self._check_directions(goals)
        self._check_times_are_measured(goals, run.engine)
        cache = open_cache(run.cache)
        model = MULTIRUN.model(run.model, cache)
        units = model.network.units(run.units)
        masks = _searched_masks(space, units)  # refuses unknown units and precisions before any time is spent
        evaluator = self._evaluator = MULTIRUN.evaluator(run, cache)
        for mask in masks:
            evaluator.check_mask(mask)
        self._check_intervals(goals, evaluator.bootstrap.num_speakers, _budgets(run.front))
        fixed = open_mask(run, model.network)
        self._inputs = evaluator.recorded_digests([*masks, fixed])
        self._searched = {_group_of(axis) for axis in space.axes}
        machine = {"machine": ", ".join(evaluator.builder.environment.values())}
        digests = evaluator.digests
        is_of_swap = any(name.startswith(SWAP_PREFIX) for name in goals.names)
        judged = {
            "conditions": evaluator.data.conditions_digest,
            "false accepts of FP32": is_of_swap
            and " ".join(f"{rate:g}" for rate in evaluator.protocol.false_accepts),
            "thresholds": _thresholds_from(evaluator),
        }
        return {
            **{name: text for name, text in judged.items() if text},
            "speakers": evaluator.data.speakers_digest,
            **(machine if any(map(self.is_time, goals.names)) else {}),
            **({"latency requests": str(run.engine.latency_requests)} if _latencies(goals) else {}),
            "checkpoint": digests["checkpoint"],
            "trial list": digests["trials"],
            "recordings": digests["recordings"],
            "scoring": " ".join(
                str(part) for part in (*evaluator.protocol.identity, digests["cohort"]) if part
            ),
            "priors of minDCF": " ".join(f"{prior:g}" for prior in run.scoring.p_targets),
            "calibration recordings": evaluator.features.calibration.digest,
            "calibration": f"{run.calibration.method} {run.calibration.percentile}",
            "rounding": _rounding(evaluator, [*masks, fixed], space),
            "units": run.units.value,
            "fixed part of the mask": _fixed_part(fixed, space),
            "fidelity": f"{run.engine.min_fidelity} on {run.engine.fidelity_recordings} recordings",
            "engine": "; ".join(_engines(evaluator, run.engine, space, cache)),
            "way of measuring": ", ".join(f"{name} {version}" for name, version in _versions().items()),
        }

    def final_overrides(self, config: DictConfig) -> Sequence[str]:
        """On the test list; a search need not time every mask, so the recommended one is timed at the end."""
        is_untimed = typed(config, RunConfig).engine.latency_requests == 0
        return [f"data.evaluate_on={TrialList.test.name}", *([_LATENCY_REQUESTS] if is_untimed else [])]

    def final_fingerprint(self, config: DictConfig) -> Mapping[str, str]:
        """Of the test list, which is opened so that what is wrong with it is said before the search."""
        run = typed(config, RunConfig)
        data = MULTIRUN.evaluator(run, open_cache(run.cache)).data
        self._final_inputs = {
            "trials": data.trials_digest,
            "recordings": speech_digest(data.recordings, run.data.channel),
            "speakers": data.speakers_digest,
            "conditions": data.conditions_digest,
        }
        return {
            **{f"final {DIGESTS_IN_WORDS[name]}": value for name, value in self._final_inputs.items()},
            "final false accepts": str([*run.scoring.false_accepts]),
            "final priors of minDCF": str([*run.scoring.p_targets]),
            "final latency requests": str(run.engine.latency_requests),
        }

    def changed_input(self, result: Mapping[str, Any], *, is_final: bool) -> str | None:
        expected = {**self._inputs, **(self._final_inputs if is_final else {})}
        for name, digest in result[DIGESTS].items():
            words = DIGESTS_IN_WORDS[name]
            is_searched = self._searched & {*SET_BY[words], "experiment"}  # and differs between trials
            # Empty where not every mask has a use for it.
            if digest != expected[name] and digest and expected[name] and not is_searched:
                return words
        return None

    def first_points(self, config: DictConfig, space: Space, goals: Goals, defaults: Point) -> FirstPoints:
        return MaskWarmStart(Choices(space, defaults), goals)

    def view(self, config: DictConfig, goals: Goals) -> MaskView:
        cache = open_cache(typed(config, RunConfig).cache)
        return MaskView(TrialList.test.name, cache, self._published(), self._names(config))

    def _names(self, config: DictConfig) -> MaskNames:
        """The precisions of all units by those of the axes, as others are fixed."""
        assert self._evaluator is not None
        fixed = open_mask(typed(config, RunConfig), self._evaluator.model.network).names

        def names(axes: Mapping[str, str]) -> Mapping[str, str]:
            return {
                unit: next((axes[module] for module in enclosing(unit) if module in axes), name)
                for unit, name in fixed.items()
            }

        return names

    def observer(self, config: DictConfig, ledgers: Sequence[Ledger], folder: Path) -> Observer:
        uri = config.tracking.uri
        others = {machine for ledger in ledgers for machine in ledger.other_machines()}
        if others and is_file(uri):
            log.warning(
                "tracking.uri=%s: %s works on this study too; record runs with an MLflow server, as several "
                "machines damage a SQLite file that they share, and have parts of the runs if they do not",
                uri,
                min(others),
            )
        return StudyRun(connect(uri, config.tracking.experiment), ledgers, folder)

    def was_final(self, result: Mapping[str, Any]) -> bool:
        return bool(result["trial_list"] == TrialList.test.name)

    def _published(self) -> PublishedResults | None:
        """What others have published of the network that is searched."""
        assert self._evaluator is not None
        return architecture_of_network(self._evaluator.model.network).published

    def _check_intervals(self, goals: Goals, num_speakers: int, budgets: Collection[str]) -> None:
        """Object to a bound on an end of an interval where the list has too few speakers for that."""
        bounded = next(filter(is_interval_end, goals.constraints), None)
        if bounded and num_speakers < _FEWEST_SPEAKERS:
            key, remedy = f"hydra.sweeper.constraints.{bounded}", "leave this bound out"
            if bounded in budgets:
                key, remedy = f"front.{bounded}", f"front.{bounded}=null"
            self._object(
                f"{key}: {num_speakers} speakers are too few for an interval; give a list of at least "
                f"{_FEWEST_SPEAKERS}, or {remedy}"
            )

    def _object(self, doubt: str) -> None:
        """Warn only: a search finds its front whatever a bound is worth."""
        log.warning("%s", doubt)

    def _check_directions(self, goals: Goals) -> None:
        """Refuse objectives that prefer the worse of two values, and constraints that forbid better ones."""
        for name in goals.constraints:
            metric = metric_of(name)
            if metric and metric.direction is Direction.maximize:
                raise UserError(
                    f"hydra.sweeper.constraints.{name}: {metric.heading} is better the larger it is, and "
                    "constraints are upper bounds; choose another number"
                )
        for name, direction in goals.objectives.items():
            metric = metric_of(name)
            if metric and metric.direction != direction:
                raise UserError(
                    f"hydra.sweeper.objectives.{name}={direction}: {metric.heading} is better the other way; "
                    f"use {metric.direction}"
                )

    def _check_times_are_measured(self, goals: Goals, engine: EngineConfig) -> None:
        """Refuse goals that need latency where the configuration has it not measured."""
        if (latencies := _latencies(goals)) and engine.latency_requests == 0:
            raise UserError(
                f"engine.latency_requests=0: {latencies[0]} is a goal of the search but is not measured; "
                f"set engine.latency_requests, such as {_LATENCY_REQUESTS}"
            )


def _latencies(goals: Goals) -> list[str]:
    return [name for name in goals.names if name in (LATENCY.name, LATENCY_P95.name)]


def _budgets(config: FrontConfig) -> dict[str, float]:
    """Constraints by names of numbers of a result."""
    given = {
        RATIO: config.size_ratio,
        SIZE: config.size_bytes,
        LATENCY.name: config.latency_ms,
        LOSS_HIGH: config.delta_eer_high,
        WORST_HIGH.name: config.worst_group_delta_eer_high,
    }
    return {name: bound for name, bound in given.items() if bound is not None}


def _searched_masks(space: Space, units: Units) -> list[Mask]:
    """For every choice of every unit that is searched, the mask that makes this choice alone.

    Raises:
        UserError: a unit or a precision is unknown, or an axis has no choices.
    """
    masks = []
    for name, distribution in space.axes.items():
        if axis := MASK_AXIS.fullmatch(name):
            if not isinstance(distribution, CategoricalDistribution):
                raise UserError(f"{name}: not a choice of precisions; write {name}=choice(...)")
            masks += [Mask(units, {axis.group(1): str(choice)}) for choice in distribution.choices]
            if len({precision_of(str(choice)) for choice in distribution.choices}) < len(
                distribution.choices
            ):
                raise UserError(f"{name}: two of its choices are the same precision; remove one")
    return masks


def _fixed_part(mask: Mask, space: Space) -> str:
    """The precisions of the units that are not searched, by themselves or with a module that they lie in."""
    keys = {name.lstrip("+") for name in space.axes}
    if "mask" in keys:
        return ""
    return " ".join(f"{unit}={name}" for unit, name in mask.names.items() if not _is_set(unit, keys))


def _is_set(unit: str, keys: Collection[str]) -> bool:
    """Whether the keys of a configuration set the unit, by itself or with a module that it lies in."""
    return any(f"mask.{module}" in keys for module in enclosing(unit))


def _group_of(axis: str) -> str:
    """The group of settings, such as ``rounding``, that an axis is over, or over a single one of."""
    return axis.lstrip("+").partition(".")[0]


def _rounding(evaluator: MaskEvaluator, masks: Iterable[Mask], space: Space) -> str:
    """How weights become integers, and for which recordings, if any of the masks needs these.

    Where that is searched, with what other points than the default one read.
    """
    settings = evaluator.settings
    searched = {_group_of(axis) for axis in space.axes}
    words = settings.rounding_in_words
    if "rounding" in searched:
        words = f"{words}, or otherwise for {settings.rounding_recordings} pieces of recordings"
    if settings.recovery.steps or "recovery" in searched:
        words = f"{words}, then {settings.recovery.in_words} (version {schema_versions.RECOVERY})"
    if settings.needs_rounding_speech(masks, searched):
        words = f"{words} ({evaluator.rounding_speech.digest})"
    return words


def _thresholds_from(evaluator: MaskEvaluator) -> str:
    """The list that FP32's thresholds are from, by its content; empty if it is the evaluated one."""
    if evaluator.tuning is evaluator:
        return ""
    digests = evaluator.tuning.digests
    return f"{digests['trials']} {digests['recordings']}"


def _versions() -> dict[str, int]:
    """Versions of this project by which the same mask would get other numbers, or other names for them."""
    return {
        "result": schema_versions.RESULT,
        "features": schema_versions.FEATURES,
        "ranges": schema_versions.RANGES,
        "Hessians": schema_versions.HESSIANS,
        "rounding": schema_versions.ROUNDED_WEIGHTS,
        "graph": schema_versions.GRAPH,
        "embeddings": schema_versions.EMBEDDINGS,
        "draws": schema_versions.REPLICATES,
    }


def _engines(evaluator: MaskEvaluator, config: EngineConfig, space: Space, cache: Cache) -> list[str]:
    """The engine, and all others that are searched."""
    tensorrt = config if isinstance(config, TensorRtSettings) else None
    axes = [distribution for axis, distribution in space.axes.items() if _group_of(axis) == "engine"]
    names = {choice for axis in axes for choice in getattr(axis, "choices", ())}
    builders = [engine_builder(name, tensorrt, cache) for name in ("auto", *ENGINES) if name in names]
    others = {_engine(builder, builder.weight_bits(config.weight_bits)) for builder in builders}
    own = _engine(evaluator.builder, evaluator.weight_bits)
    return [own, *sorted(others - {own})]


def _engine(builder: EngineBuilder, weight_bits: int) -> str:
    versions = [f"{name} {value}" for name, value in builder.environment.items() if name in builder.bound_to]
    settings = [f"{name}={value}" for name, value in builder.settings.items()]
    return ", ".join([builder.name, *versions, *settings, f"{weight_bits}-bit weights"])
