"""What others have published of a kind of network, to put beside our own results."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedResult:
    """Of one mask: ``eer`` in percent, ``size_mb`` in 10^6 bytes."""

    eer: float
    size_mb: float


@dataclass(frozen=True)
class PublishedResults:
    """Results of one publication.

    Attributes:
        source: The publication.
        label: What it is called in tables and pictures, in a word.
        by_int8_units: Results by the set of units in INT8, all others being in FP32; that of the empty set
            among them.
        proposed_units: The units in INT8 that the publication proposes.
    """

    source: str
    label: str
    by_int8_units: Mapping[frozenset[str], PublishedResult]
    proposed_units: frozenset[str]

    @property
    def baseline(self) -> PublishedResult:
        """Of the network in FP32."""
        return self.by_int8_units[frozenset()]

    @property
    def proposed(self) -> PublishedResult:
        """Of the proposed mask."""
        return self.by_int8_units[self.proposed_units]

    def delta_eer(self, result: PublishedResult) -> float:
        """Percent absolute above the EER of the network in FP32."""
        return result.eer - self.baseline.eer

    def size_ratio(self, result: PublishedResult) -> float:
        """Size relative to the engine in FP32."""
        return result.size_mb / self.baseline.size_mb
