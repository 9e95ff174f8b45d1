"""What the search over masks adds to a plain search: what makes results comparable, where to begin, words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from speakerquant.cache import Cache
from speakerquant.config import RunConfig, TrialList, typed
from speakerquant.engine.base import EngineBuilder
from speakerquant.inputs import load_model, open_inputs
from speakerquant.model.units import block_units
from speakerquant.paper import PROPOSED
from speakerquant.quantization.mask import Mask
from speakerquant.reporting.table import FIGURE_HEADINGS, figure_cells, mask_name
from speakerquant.search.application import Observer, SearchApplication
from speakerquant.search.goals import Goals
from speakerquant.search.ledger import Ledger
from speakerquant.search.loop import FirstPoints
from speakerquant.search.space import Point, Space
from speakerquant.search.view import Plane, Reference, View
from speakerquant.search.warm_start import MASK_AXIS, MaskWarmStart
from speakerquant.tracking.client import connect
from speakerquant.tracking.study import StudyRun


class MaskSearch(SearchApplication):
    """Searches :class:`speakerquant.config.RunConfig`."""

    final_overrides = (f"data.evaluate_on={TrialList.test.name}",)

    def is_time(self, name: str) -> bool:
        return name.startswith(("latency_ms", "real_time_factor", "seconds."))

    def fingerprint(self, config: DictConfig, space: Space, goals: Goals) -> Mapping[str, str]:
        run = typed(config, RunConfig)
        model = load_model(run.model)
        mask = Mask(block_units(model.network), run.mask)  # refuses unknown units before any time is spent
        searched = {name.lstrip("+") for name in space.axes}
        fixed = [f"{unit}={precision}" for unit, precision in mask.items() if f"mask.{unit}" not in searched]
        inputs = open_inputs(run, model, Cache(Path(run.cache.root) if run.cache.root else None))
        machine = {"machine": ", ".join(inputs.builder.environment.values())}
        return {
            **(machine if any(map(self.is_time, goals.names)) else {}),
            "checkpoint": model.digest,
            "trial list": inputs.data.trials_digest,
            "recordings": inputs.features.digest,
            "scoring": " ".join(str(part) for part in inputs.protocol.identity if part),
            "calibration recordings": inputs.calibration.digest,
            "calibration": f"{run.calibration.method} {run.calibration.percentile}",
            "fixed part of the mask": "" if "mask" in searched else " ".join(fixed),
            "fidelity": f"{run.engine.min_fidelity} on {run.engine.fidelity_recordings} recordings",
            "engine": _engine(inputs.builder, inputs.weight_bits),
        }

    def first_points(self, space: Space, goals: Goals, defaults: Point) -> FirstPoints:
        return MaskWarmStart(space, goals, defaults)

    def view(self, goals: Goals) -> View:
        return MaskView()

    def observer(self, config: DictConfig, ledgers: Sequence[Ledger], folder: Path) -> Observer:
        return StudyRun(connect(config.tracking.uri, config.tracking.experiment), ledgers, folder)

    def was_final(self, result: Mapping[str, Any]) -> bool:
        return bool(result["trial_list"] == TrialList.test.name)


class MaskView:
    """Masks by their INT8 units; size and EER relative to FP32, as the paper's can be compared."""

    point_heading = "INT8 units"
    headings = FIGURE_HEADINGS
    plane = Plane(
        "size_ratio",
        "delta_eer",
        "engine size relative to FP32",
        "ΔEER (percent absolute)",
        (
            Reference("FP32, here and in the paper", 1.0, 0.0),
            Reference("paper's proposal", PROPOSED.size_ratio, PROPOSED.delta_eer),
        ),
    )

    def describe(self, point: Point) -> str:
        mask = {
            name.removeprefix("mask."): str(value)
            for name, value in point.items()
            if MASK_AXIS.fullmatch(name)
        }
        others = [f"{name}={value}" for name, value in point.items() if not MASK_AXIS.fullmatch(name)]
        return " ".join([mask_name(mask), *others] if mask else others)

    def cells(self, result: Mapping[str, Any]) -> Sequence[str]:
        return figure_cells(result)

    def data(self, result: Mapping[str, Any], *, searched: bool) -> str:
        trial_list = f"on the {result['trial_list']} list"
        seen = searched and result["trial_list"] == TrialList.test.name
        return f"{trial_list}, which the search has seen" if seen else trial_list


def _engine(builder: EngineBuilder, weight_bits: int) -> str:
    versions = [f"{name} {value}" for name, value in builder.environment.items() if name in builder.bound_to]
    settings = [f"{name}={value}" for name, value in builder.settings.items()]
    return ", ".join([builder.name, *versions, *settings, f"{weight_bits}-bit weights"])
