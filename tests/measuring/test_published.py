"""What others have published is put beside the same mask of the same network, and beside no other."""

import pytest
from toy_network import TOY

from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn
from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED
from speakerquant.measuring.assembly import published_of

UNITS = EcapaTdnn(EcapaTdnnConfig(channels=8)).units()


def mask_of(*quantized: str, **others: str) -> dict[str, str]:
    return {unit: others.get(unit, "int8" if unit in quantized else "fp32") for unit in UNITS}


def test_published_results_are_found_by_mask() -> None:
    baseline = published_of(ECAPA_TDNN, mask_of())
    assert baseline is not None
    assert (baseline.label, baseline.source) == ("paper", PUBLISHED.source)
    assert baseline.numbers == {
        "eer": 1.665,
        "delta_eer": 0.0,
        "engine_size_bytes": pytest.approx(63.571e6),
        "size_ratio": 1.0,
    }
    proposed = published_of(ECAPA_TDNN, mask_of(*PUBLISHED.proposed_units))
    assert proposed is not None
    assert proposed.numbers["eer"] == 1.739
    assert proposed.numbers["delta_eer"] == pytest.approx(0.074)
    assert published_of(ECAPA_TDNN, mask_of("input_conv", "se_res2block1")) is None
    assert len(PUBLISHED.by_int8_units) == 9


def test_nothing_is_published_of_another_precision_or_another_network() -> None:
    assert published_of(ECAPA_TDNN, mask_of("input_conv", embedding_linear="fp16")) is None
    assert published_of(TOY, {"frames": "fp32", "embedding": "fp32"}) is None
