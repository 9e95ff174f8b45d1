"""Hydra jobs in batches, of which each is one job or task of a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speakerquant.errors import UserError


@dataclass(frozen=True)
class HydraJob:
    """One evaluation: its number in the multirun or search, and its overrides."""

    number: int
    overrides: list[str]


def batch_size(masks_per_job: Any) -> int:
    """The setting of this name.

    Raises:
        UserError: it is out of range.
    """
    if not isinstance(masks_per_job, int) or masks_per_job < 1:
        raise UserError(f"hydra.launcher.masks_per_job={masks_per_job}: use a number from 1")
    return masks_per_job


def in_batches(
    job_overrides: Sequence[Sequence[str]], initial_job_idx: int, size: int
) -> list[list[HydraJob]]:
    """What a launcher is asked for, in batches of at most ``size`` in its order."""
    jobs = [HydraJob(number, list(each)) for number, each in enumerate(job_overrides, start=initial_job_idx)]
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]
