"""The paper's figures are put beside the same mask of ours, and beside no other."""

from speakerquant.report.paper import BASELINE, PROPOSED, PROPOSED_UNITS, RESULTS, paper_result

from .conftest import MakeMask


def test_paper_results_are_found_by_mask(make_mask: MakeMask) -> None:
    assert paper_result(make_mask()) == BASELINE
    assert paper_result(make_mask(*PROPOSED_UNITS)) == PROPOSED
    assert paper_result(make_mask("input_conv", "se_res2block1")) is None
    assert BASELINE.delta_eer == 0.0
    assert len(RESULTS) == 9


def test_the_paper_measured_no_other_precision_and_no_unknown_mask(make_mask: MakeMask) -> None:
    assert paper_result(make_mask("input_conv", embedding_linear="fp16")) is None
    assert paper_result({}) is None
