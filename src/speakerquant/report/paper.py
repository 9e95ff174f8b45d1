"""The paper's own figures, to put beside ours.

Hong, Chung, Kang: "Optimizing DNN-Based Speaker Verification: A Framework for Efficient Model
Quantization", Tables 1 and 2: ECAPA-TDNN with C = 1024, VoxCeleb1 test set, TensorRT.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from speakerquant.quantization.precision import BASELINE as BASELINE_PRECISION
from speakerquant.quantization.precision import INT8


@dataclass(frozen=True)
class PaperResult:
    """The paper's figures of one mask: ``eer`` in percent, ``size_mb`` in 10^6 bytes."""

    eer: float
    size_mb: float

    @property
    def delta_eer(self) -> float:
        """Percent absolute above the paper's FP32 network."""
        return self.eer - BASELINE.eer

    @property
    def size_ratio(self) -> float:
        """Size relative to the paper's FP32 engine."""
        return self.size_mb / BASELINE.size_mb

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by their names in our results."""
        return {
            "eer": self.eer,
            "delta_eer": self.delta_eer,
            "engine_size_bytes": self.size_mb * 1e6,
            "size_ratio": self.size_ratio,
        }


PROPOSED_UNITS = frozenset(
    {"input_conv", "se_res2block1", "aggregation_conv", "attentive_pooling", "embedding_linear"}
)
"""Those that the paper proposes to run in INT8."""

BASELINE = PaperResult(1.665, 63.571)
PROPOSED = PaperResult(1.739, 33.974)

RESULTS: Mapping[frozenset[str], PaperResult] = {
    frozenset(): BASELINE,
    frozenset({"input_conv"}): PaperResult(1.660, 60.413),
    frozenset({"se_res2block1"}): PaperResult(1.680, 53.501),
    frozenset({"se_res2block2"}): PaperResult(1.716, 53.389),
    frozenset({"se_res2block3"}): PaperResult(1.766, 53.381),
    frozenset({"aggregation_conv"}): PaperResult(1.688, 48.365),
    frozenset({"attentive_pooling"}): PaperResult(1.681, 56.594),
    frozenset({"embedding_linear"}): PaperResult(1.665, 60.100),
    PROPOSED_UNITS: PROPOSED,
}
"""By the set of units in INT8."""


def paper_result(mask: Mapping[str, str]) -> PaperResult | None:
    """What the paper measured for this mask (name of the precision by unit), if it did."""
    if not mask or not {BASELINE_PRECISION.name, INT8.name}.issuperset(mask.values()):
        return None
    return RESULTS.get(frozenset(unit for unit, precision in mask.items() if precision == INT8.name))
