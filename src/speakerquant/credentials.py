"""Hides passwords and tokens in whatever is shown, recorded or written."""

import logging
import re
from typing import Any

_HIDDEN = "***"
# Each begins with what is rare; what any word begins with would have it looked through again at each letter.
_SECRET_NAME = r"(?:password|passwd|token|secret|api_?key|credential)[\w.-]*"
_PATTERNS = (
    # Of an address: a password, or a token that stands alone before the host.
    (re.compile(r"(://[^\s/:@]*:)[^\s/]+(?=@)"), rf"\1{_HIDDEN}"),
    (re.compile(r"(\bhttps?://)[^\s/:@]+(?=@)", re.IGNORECASE), rf"\1{_HIDDEN}"),
    # Settings and parts of queries that bear such a name.
    (re.compile(rf"({_SECRET_NAME}['\"]?\s*[=:]\s*)(?!null\b)[^\s&,;}}]+", re.IGNORECASE), rf"\1{_HIDDEN}"),
)


def hide_credentials(text: str) -> str:
    """Return the text with every password and token replaced by ``***``."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


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
