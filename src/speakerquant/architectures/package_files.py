"""Files out of the wheels of a package index, which pip downloads and an archive's reader opens."""

import difflib
import importlib.util
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from speakerquant.cache import Cache
from speakerquant.errors import UserError
from speakerquant.files import digest, sha256_of

log = logging.getLogger(__name__)

SCHEME = "pypi://"
KIND = "checkpoints"
_FORM = f"{SCHEME}package==version/path/in/the/wheel"
_REFERENCE = re.compile(
    rf"{SCHEME}(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+-]+)/(?P<path>[^#]+)"
    r"(#sha256=(?P<sha256>[0-9a-f]{64}))?"
)
# What pip says before it downloads a wheel, with the size.
_DOWNLOADING = re.compile(r"\s*Downloading \S+\.whl \(.+\)")
_ERROR = "ERROR: "


@dataclass(frozen=True)
class PackageFile:
    """A file of a package.

    Attributes:
        package: Name of the package.
        version: Its version, exactly.
        path: Path of the file in the wheel.
        sha256: Digest that the file must have, if it is pinned.
    """

    package: str
    version: str
    path: str
    sha256: str | None

    @classmethod
    def parse(cls, reference: str) -> "PackageFile":
        """Read a reference, with ``#sha256=`` and the digest of the file behind it where that is pinned.

        Raises:
            UserError: it is malformed.
        """
        parts = _REFERENCE.fullmatch(reference)
        if parts is None:
            raise UserError(
                f"not of the form {_FORM}, with #sha256= and 64 hexadecimal digits behind it or without"
            )
        return cls(**parts.groupdict())

    @property
    def key(self) -> str:
        """Key of the file in the cache."""
        parts = (self.package, self.version, self.path, self.sha256)
        return f"{digest(*parts)}-{PurePosixPath(self.path).name}"

    @property
    def requirement(self) -> str:
        """The package and its version, as pip takes them."""
        return f"{self.package}=={self.version}"

    def fetch(self, cache: Cache) -> Path:
        """Return the path of the file, which is downloaded once and found in the cache after that.

        Raises:
            UserError: there is no pip, no network, no such package or file, or another file than is pinned.
        """
        return cache.get(KIND, self.key, self._download)

    def _download(self, target: Path) -> None:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            self._extract(self._wheel(Path(folder)), target)
        found = sha256_of(target)
        if self.sha256 is None:
            log.info("%s of %s: pin it with #sha256=%s", self.path, self.requirement, found)
        elif found != self.sha256:
            raise UserError(f"has the SHA-256 {found}, another than is pinned; use it only if you know why")

    def _wheel(self, folder: Path) -> Path:
        """Have pip download the wheel into the folder."""
        if importlib.util.find_spec("pip") is None:
            raise UserError(f"needs pip, and {sys.executable} has none; install pip, or give a path")
        options = ("--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--progress-bar=off")
        said: list[str] = []
        with subprocess.Popen(
            [sys.executable, "-m", "pip", "download", *options, "--dest", folder, self.requirement],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as pip:
            assert pip.stdout is not None
            for line in pip.stdout:
                said.append(line)
                if _DOWNLOADING.match(line):
                    log.info("%s is in %s: %s", PurePosixPath(self.path).name, self.requirement, line.strip())
        if pip.returncode != 0:
            raise UserError(
                f"cannot be downloaded ({_reason(said)}); check it and the network, or give a path"
            )
        [wheel] = folder.glob("*.whl")
        return wheel

    def _extract(self, wheel: Path, target: Path) -> None:
        """Write the file to the target."""
        try:
            with zipfile.ZipFile(wheel) as archive:
                files = [name for name in archive.namelist() if not name.endswith("/")]
                if self.path not in files:
                    near = difflib.get_close_matches(self.path, files, cutoff=0.4)
                    what = f"the nearest are {', '.join(near)}" if near else "and none like it"
                    raise UserError(f"{self.requirement} has no {self.path}; {what}")
                with archive.open(self.path) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
        except zipfile.BadZipFile as error:
            raise UserError(f"the wheel is damaged ({error}); try again") from None


def _reason(said: list[str]) -> str:
    """Why pip failed, in its own words where it says more than that nothing was found."""
    if any("Retrying (" in line for line in said):
        return "no connection to the package index"
    errors = [line.removeprefix(_ERROR).strip() for line in said if line.startswith(_ERROR)]
    return errors[0][:200] if errors else "pip does not say why"
