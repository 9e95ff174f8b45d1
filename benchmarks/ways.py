"""What the ways to a front that ``front_vs_peers.py`` compares have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from opened_run import open_run

from speakerquant.cache import Cache
from speakerquant.measuring.evaluator import MaskEvaluator
from speakerquant.quantization.mask import Mask
from speakerquant.statistics.error_rates import eer

SETTINGS = ("engine=openvino", "data.evaluate_on=development", "engine.latency_requests=0")
PRECISIONS = ("int8", "int4", "int2")
Point = tuple[float, float]  # bytes, EER in percent


@dataclass(frozen=True)
class Way:
    """How a front was found.

    Attributes:
        seconds: How long it took.
        masks: How many masks were evaluated.
        points: Sizes and EERs of those.
        remark: What is to be known of the figures.
    """

    seconds: float
    masks: int
    points: Sequence[Point]
    remark: str = ""


FindFront = Callable[[Path], Way]
"""Finds a front; writes what it needs into the folder."""


def open_afresh(folder: Path, *overrides: str) -> MaskEvaluator:
    """What all ways measure with, with a cache of its own in the folder."""
    return open_run([*SETTINGS, *overrides, f"cache.root={new_cache(folder)}"]).evaluator


def new_cache(folder: Path) -> Path:
    """A cache that knows nothing but the synthetic recordings."""
    cache = folder / "cache"
    cache.mkdir(parents=True)
    (cache / "synthetic").symlink_to(Cache().root / "synthetic")
    return cache


def measure(evaluator: MaskEvaluator, masks: Sequence[Mask], folder: Path) -> list[Point]:
    """Sizes and EERs of the masks' engines."""
    measured = evaluator.measure(masks, [folder] * len(masks))
    return [(float(each.size_bytes), eer(each.scores, evaluator.data.trials.labels)) for each in measured]
