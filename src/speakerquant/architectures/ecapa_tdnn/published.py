"""The results of the paper that quantizes ECAPA-TDNN (C = 1024, VoxCeleb1 test set, TensorRT)."""

from speakerquant.architectures.published_results import PublishedResult, PublishedResults

_PROPOSED = frozenset(
    {"input_conv", "se_res2block1", "aggregation_conv", "attentive_pooling", "embedding_linear"}
)

PUBLISHED = PublishedResults(
    source="Hong, Chung, Kang: Optimizing DNN-Based Speaker Verification: A Framework for Efficient Model "
    "Quantization, Tables 1 and 2",
    label="paper",
    by_int8_units={
        frozenset(): PublishedResult(1.665, 63.571),
        frozenset({"input_conv"}): PublishedResult(1.660, 60.413),
        frozenset({"se_res2block1"}): PublishedResult(1.680, 53.501),
        frozenset({"se_res2block2"}): PublishedResult(1.716, 53.389),
        frozenset({"se_res2block3"}): PublishedResult(1.766, 53.381),
        frozenset({"aggregation_conv"}): PublishedResult(1.688, 48.365),
        frozenset({"attentive_pooling"}): PublishedResult(1.681, 56.594),
        frozenset({"embedding_linear"}): PublishedResult(1.665, 60.100),
        _PROPOSED: PublishedResult(1.739, 33.974),
    },
    proposed_units=_PROPOSED,
)
