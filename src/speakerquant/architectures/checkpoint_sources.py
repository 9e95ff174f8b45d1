"""Checkpoints by reference: a path, the shipped one, or a file of a model repository."""

from importlib.resources import files
from pathlib import Path

from speakerquant.errors import UserError, first_line

SHIPPED = "shipped"
_SCHEME = "hf://"


def checkpoint_path(reference: str) -> Path:
    """Return the path of the checkpoint on this machine.

    Args:
        reference: ``shipped``, a path, or ``hf://owner/name/file``: that file is downloaded once and found in
            huggingface_hub's cache after that, without network too.

    Raises:
        UserError: the reference is malformed, or the file cannot be had.
    """
    if reference == SHIPPED:
        return shipped_checkpoint()
    if not reference.startswith(_SCHEME):
        return Path(reference)
    return _downloaded(reference)


def shipped_checkpoint() -> Path:
    """Return the path of the trained checkpoint that comes with the package (see MODEL_CARD.md beside it)."""
    return Path(str(files("speakerquant.architectures.ecapa_tdnn") / "shipped" / "ecapa_tdnn.safetensors"))


def _downloaded(reference: str) -> Path:
    from huggingface_hub import hf_hub_download  # only these references need it, and it takes half a second

    owner, _, rest = reference.removeprefix(_SCHEME).partition("/")
    name, _, file = rest.partition("/")
    if not (owner and name and file):
        raise UserError(f"model.checkpoint={reference}: not of the form hf://owner/name/file")
    try:
        return Path(hf_hub_download(f"{owner}/{name}", file))
    except Exception as error:  # some are its network library's, which another version may change
        raise UserError(
            f"model.checkpoint={reference}: cannot be downloaded ({first_line(error)[:200]}); "
            "check the name and the network, or give a path"
        ) from None
