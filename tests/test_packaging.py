"""What a release holds, and that it runs away from the repository."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
from packaging.version import Version

pytestmark = [pytest.mark.slow, pytest.mark.release]

PROJECT = Path(__file__).resolve().parents[1]
SAMPLE_RATE = 16000


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    _build("sdist", PROJECT, folder)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return archive.with_name(archive.name.removesuffix(".tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel, as it is built from the source distribution."""
    _build("wheel", sdist, sdist.parent)
    [wheel] = sdist.parent.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the commands of an environment that the wheel is installed in.

    ``SPEAKERQUANT_RELEASE`` names one, which has nothing else; otherwise one is made that finds the packages
    of this environment, but not the repository, which speakerquant comes from in this one.
    """
    if "SPEAKERQUANT_RELEASE" in os.environ:
        return Path(os.environ["SPEAKERQUANT_RELEASE"], "bin").absolute()
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    # A folder in a .pth file is searched for packages; .pth files in it are not read.
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def test_release_holds_the_package_and_its_files(sdist: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        described = {name.split("/", 1)[1] for name in archive.namelist() if ".dist-info/" in name}
    listed = subprocess.run(
        ["git", "ls-files", "src", "conf"], cwd=PROJECT, check=True, capture_output=True, text=True
    )
    kept = [Path(line) for line in listed.stdout.splitlines() if (PROJECT / line).exists()]
    in_wheel = {
        str(path.relative_to("src") if path.parts[0] == "src" else "speakerquant" / path) for path in kept
    }
    assert packed == in_wheel
    assert "speakerquant/conf/run.yaml" in packed
    assert described == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert all((sdist / path).is_file() for path in [*kept, "LICENSE", "README.md", "CHANGELOG.md"])


def test_source_distribution_gives_the_wheel_of_the_repository(wheel: Path, tmp_path: Path) -> None:
    _build("wheel", PROJECT, tmp_path)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_version_is_that_of_the_tag_and_above_the_last_one_without(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-tags", PROJECT, clone], check=True)
    released, _ = _last_release()
    assert Version(_version(clone)) > Version(released)
    subprocess.run(["git", "tag", "v7.8.9"], cwd=clone, check=True)
    assert _version(clone) == "7.8.9"


def test_last_release_is_named_alike_everywhere() -> None:
    version, day = _last_release()
    citation = (PROJECT / "CITATION.cff").read_text()
    assert f"\nversion: {version}\ndate-released: {day}\n" in citation
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert settings["tool"]["hatch"]["version"]["fallback-version"] == version


def test_installed_wheel_measures_a_mask_and_verifies(commands: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for speaker in ("test/a", "test/b", "test/c", "others/d", "others/e"):
        (tmp_path / speaker).mkdir(parents=True)
        voice = noise.standard_normal(16)
        for name in ("1.wav", "2.wav"):
            samples = np.convolve(noise.standard_normal(2 * SAMPLE_RATE), voice, "same")
            soundfile.write(tmp_path / speaker / name, 0.5 * samples / np.abs(samples).max(), SAMPLE_RATE)
    pairs = combinations([f"{speaker}/{name}.wav" for speaker in "abc" for name in "12"], 2)
    (tmp_path / "trials.txt").write_text("\n".join(f"{int(x[0] == y[0])} {x} {y}" for x, y in pairs))
    recordings = ["data=folder", "data.root=test", "data.trials=trials.txt", "data.calibration_root=others"]
    run = ["-m", "mask=all", "cache.root=cache", "calibration.num_recordings=4", "hydra.sweep.dir=runs"]
    _run(commands / "speakerquant", *run, *recordings, folder=tmp_path)
    said = _run(
        commands / "speakerquant-verify", "--model", "runs/0", "test/a/1.wav", "test/a/2.wav", folder=tmp_path
    )
    assert "speaker: score" in said
    _run(commands / "speakerquant-report", folder=tmp_path)
    assert "size MB" in (tmp_path / "report.html").read_text()


def _build(target: str, source: Path, folder: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)


def _last_release() -> tuple[str, str]:
    """Version and day of the newest release that the changelog has."""
    changelog = (PROJECT / "CHANGELOG.md").read_text()
    [release, *_] = re.findall(r"^## (\d\S+) - (\S+)$", changelog, re.MULTILINE)
    return release


def _version(source: Path) -> str:
    said = subprocess.run(
        [sys.executable, "-m", "hatchling", "version"], cwd=source, check=True, capture_output=True, text=True
    )
    return said.stdout.strip()


def _run(command: Path, *arguments: str, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        [command, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
