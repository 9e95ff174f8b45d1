"""The command line of the README on a folder of real recordings, with the shipped checkpoint."""

import os
import re
from pathlib import Path

import pytest

from speakerquant.architectures.checkpoint_sources import shipped_checkpoint

from .conftest import Command, Workspace, results

LIBRISPEECH = os.environ.get("SPEAKERQUANT_LIBRISPEECH")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        LIBRISPEECH is None, reason="SPEAKERQUANT_LIBRISPEECH does not name a folder of real speech"
    ),
]


def model_card_eer(corpus: str) -> float:
    card = (shipped_checkpoint().parent / "MODEL_CARD.md").read_text()
    row = re.search(rf"^\| {corpus} \|[^|]+\|[^|]+\| ([\d.]+) \|", card, re.MULTILINE)
    assert row is not None
    return float(row[1])


def test_real_recordings_give_the_model_cards_eer(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    root = Path(str(LIBRISPEECH))
    finished = speakerquant(
        "mask=none",
        "data=folder",
        f"data.root={root / 'test-other'}",
        f"data.trials={root / 'test-other' / 'trials.txt'}",
        f"data.calibration_root={root / 'train-clean-100'}",
        "calibration.num_recordings=4",
        "engine.latency_requests=0",
        f"tracking.uri={workspace.tracking_uri}",
        f"cache.root={workspace.cache}",
    )
    assert finished.code == 0, finished.err
    [result] = results(tmp_path)
    assert result["num_trials"] == 4950
    assert result["eer"] == pytest.approx(model_card_eer("LibriSpeech test-other"), abs=0.01)
    assert result["eer"] <= 5.0
    assert result["fidelity"] >= 0.99999
