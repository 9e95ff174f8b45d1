"""Trial lists by reference: a path, or an address on the web."""

from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import requests

from speakerquant.cache import Cache
from speakerquant.corpus.trials import read_trials
from speakerquant.errors import UserError
from speakerquant.files import digest

_SCHEMES = ("https://", "http://")
_TIMEOUT = 30.0  # seconds without a byte


def trial_list_path(reference: str, cache: Cache) -> Path:
    """Return the path of the trial list on this machine.

    Args:
        reference: A path, or an address, whose list is downloaded once and then found in the cache.
        cache: Cache of downloaded lists.

    Raises:
        UserError: it cannot be downloaded, or is no trial list.
    """
    if not reference.startswith(_SCHEMES):
        return Path(reference)

    def download(path: Path) -> None:
        try:
            answer = requests.get(reference, timeout=_TIMEOUT)
            answer.raise_for_status()
        except requests.RequestException as error:
            raise UserError(
                f"{reference}: cannot be downloaded ({_reason(error)}); "
                "check the address and the network, or give the path of the list"
            ) from None
        path.write_bytes(answer.content)
        try:
            read_trials(path, keep_repeated=True)
        except UserError as error:
            what = str(error).removeprefix(f"{path}")
            raise UserError(f"{reference}{what}; is it the address of a trial list?") from None

    try:
        name = PurePosixPath(urlsplit(reference).path).name
    except ValueError as error:
        raise UserError(
            f"{reference}: no address ({error}); check it, or give the path of the list"
        ) from None
    return cache.get("trial_lists", digest(reference), download, suffix=f"-{name}")


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"status {error.response.status_code}"
    return "timed out" if isinstance(error, requests.Timeout) else "no connection"
