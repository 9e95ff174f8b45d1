"""What a mask is put on has a digest of all that determines what the mask computes."""

from dataclasses import replace

import pytest
from conftest import Subject

from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.audio.front_end import FrontEnd
from speakerquant.quantization.prepared import PreparedModel
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding
from speakerquant.quantization.rounding_method import RoundingMethod


@pytest.mark.parametrize("change", ["model", "table", "rounding", "max_weight_bits"])
def test_what_determines_what_a_mask_computes_determines_the_digest(small: Subject, change: str) -> None:
    prepared = PreparedModel(
        SpeakerModel(small.network, FrontEnd(), "small"), small.table, Rounding(), "in words", 8
    )
    others = {
        "model": replace(prepared.model, digest="another"),
        "table": CalibrationTable("max", {}, {}),
        "rounding": Rounding(RoundingMethod.gptq),
        "max_weight_bits": 7,
    }
    assert replace(prepared, **{change: others[change]}).digest != prepared.digest
    assert replace(prepared, rounding_in_words="in others").digest == prepared.digest
