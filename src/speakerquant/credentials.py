"""Hides passwords and tokens in whatever is shown, recorded or written."""

import logging
import re
from typing import Any

_HIDDEN = "***"
# Of an address: a password, or a token that stands alone before the host.
_OF_ADDRESSES = (
    re.compile(r"(://[^\s/:@]*:)[^\s/]+(?=@)"),
    re.compile(r"(\bhttps?://)[^\s/:@]+(?=@)", re.IGNORECASE),
)
# Settings and parts of queries that bear such a name. A match begins with what is rare and takes the word,
# value or not: a long word would be looked through again from each letter, or from each name in it.
_NAMED = re.compile(
    r"((?:password|passwd|token|secret|api_?key|credential)[\w.-]*+)"
    r"(?:(['\"]?\s*[=:]\s*)(?!null\b)[^\s&,;}]+)?",
    re.IGNORECASE,
)


def hide_credentials(text: str) -> str:
    """Return the text with every password and token replaced by ``***``."""
    for pattern in _OF_ADDRESSES:
        text = pattern.sub(rf"\1{_HIDDEN}", text)
    return _NAMED.sub(lambda found: f"{found[1]}{found[2]}{_HIDDEN}" if found[2] else found[0], text)


def without_credentials(address: str) -> str:
    """Return the address without user and password."""
    return re.sub(r"^(\w[\w+.-]*://)[^/]*@", r"\1", address)


def hide_credentials_in_logs() -> None:
    """Hide them in all that is logged from now on, by libraries too."""
    make = logging.getLogRecordFactory()
    if getattr(make, "hides_credentials", False):
        return

    def make_without(*arguments: Any, **keywords: Any) -> logging.LogRecord:
        record = make(*arguments, **keywords)
        message = record.getMessage()
        if (shown := hide_credentials(message)) != message:
            record.msg, record.args = shown, ()
        if record.exc_info:
            record.exc_text = hide_credentials(logging.Formatter().formatException(record.exc_info))
        return record

    make_without.hides_credentials = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_without)
