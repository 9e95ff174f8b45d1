"""The ways to normalise scores; :mod:`.scores` does it."""

from enum import StrEnum


class ScoreNorm(StrEnum):
    """How cosine scores are normalised against a cohort."""

    none = "none"
    s_norm = "s_norm"
    as_norm = "as_norm"
