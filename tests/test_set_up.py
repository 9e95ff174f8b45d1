"""Set-up by uv does what pip is configured to do."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools" / "uv_like_pip.py"

pytestmark = pytest.mark.skipif(
    not Path(sys.prefix, "bin", "uv").exists(),
    reason="`make setup` has not made this environment: it has no uv",
)


def test_set_up_takes_packages_from_where_pip_does(tmp_path: Path) -> None:
    company = _index(tmp_path / "company", "2.0", "3.0")
    further = _index(tmp_path / "further", "1.0", "2.0")
    (tmp_path / "constraints.txt").write_text("voices-demo<3\n")
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        "[global]\n"
        "index-url = file:///nowhere\n"
        f"extra-index-url = {further}\n    file:///nowhere/else\n"
        f"find-links = {tmp_path / 'missing'}\n"
        "[install]\n"
        f"constraint = {tmp_path / 'constraints.txt'}\n"
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    variables |= {"PIP_CONFIG_FILE": str(configuration), "PIP_INDEX_URL": company, "UV_NO_CACHE": "1"}
    installed = tmp_path / "installed"
    command = [sys.executable, TOOL, "pip", "install", "--quiet", "--target", installed, "voices-demo"]
    subprocess.run(command, env=variables, check=True)
    metadata = (installed / "voices_demo-2.0.dist-info" / "METADATA").read_text()
    assert "Summary: from company" in metadata


def _index(folder: Path, *versions: str) -> str:
    """Makes an index of one package, and returns its address."""
    pages = folder / "voices-demo"
    pages.mkdir(parents=True)
    metadata = {
        "METADATA": f"Metadata-Version: 2.1\nName: voices-demo\nVersion: {{}}\nSummary: from {folder.name}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    for version in versions:
        with zipfile.ZipFile(pages / f"voices_demo-{version}-py3-none-any.whl", "w") as archive:
            for name, text in metadata.items():
                archive.writestr(f"voices_demo-{version}.dist-info/{name}", text.format(version))
    links = "".join(f'<a href="{wheel.name}">{wheel.name}</a>' for wheel in pages.glob("*.whl"))
    (pages / "index.html").write_text(links)
    return folder.as_uri()
