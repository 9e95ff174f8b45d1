"""What ``import speakerquant`` offers."""

import subprocess
import sys

import pytest

import speakerquant


def test_public_names_are_there_and_documented() -> None:
    assert len(speakerquant.__all__) <= 12
    for name in speakerquant.__all__:
        assert getattr(speakerquant, name).__doc__
        assert name in dir(speakerquant)


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Masks'"):
        _ = speakerquant.Masks  # type: ignore[attr-defined]


def test_the_package_is_imported_without_what_its_names_need() -> None:
    program = "import sys, speakerquant; print(sorted({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
