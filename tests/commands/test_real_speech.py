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
        "mask=paper",
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
    [paper] = results(tmp_path)
    assert paper["num_trials"] == 4950
    assert paper["baseline_eer"] == pytest.approx(model_card_eer("LibriSpeech test-other"), abs=0.01)
    assert paper["baseline_eer"] <= 5.0
    assert paper["size_ratio"] < 0.6
    assert paper["fidelity"] >= 0.999
