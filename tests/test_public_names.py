"""What ``import speakerquant`` offers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import speakerquant


def test_public_names_are_there_and_documented() -> None:
    assert len(speakerquant.__all__) <= 12
    for name in speakerquant.__all__:
        assert getattr(speakerquant, name).__doc__
        assert name in dir(speakerquant)


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Masks'"):
        _ = speakerquant.Masks  # type: ignore[attr-defined]


def test_paths_may_be_text(tmp_path: Path) -> None:
    for name in ("tested/ann/0.wav", "tested/bob/0.wav", "others/cid/0.wav"):
        (tmp_path / name).parent.mkdir(parents=True)
        soundfile.write(tmp_path / name, np.zeros(10), 16000)
    (tmp_path / "trials.txt").write_text("1 ann/0.wav ann/0.wav\n0 ann/0.wav bob/0.wav\n")
    (tmp_path / "list.txt").write_text("cid/0.wav\n")
    (tmp_path / "conditions.txt").write_text("speaker\tsex\nann\tf\nbob\tm\n")
    data = speakerquant.open_evaluation_data(
        *(speakerquant.open_recordings(f"{tmp_path}/tested"), f"{tmp_path}/trials.txt"),
        speakerquant.open_recordings(f"{tmp_path}/others"),
        num_calibration=1,
        calibration_seed=0,
        calibration_list=f"{tmp_path}/list.txt",
        conditions=f"{tmp_path}/conditions.txt",
    )
    assert [*data.calibration] == [tmp_path / "others/cid/0.wav"]
    assert speakerquant.Cache(f"{tmp_path}/cache").root == tmp_path / "cache"
    assert speakerquant.load_checkpoint(str(speakerquant.shipped_checkpoint())).network.n_mels == 80


def test_the_package_is_imported_without_what_its_names_need() -> None:
    program = "import sys, speakerquant; print(sorted({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
