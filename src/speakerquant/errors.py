"""The exceptions for what a user can mend, and what libraries' exceptions mean."""

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class UserError(Exception):
    """Wrong input, said in one line: what is wrong, where it is, and what to do about it.

    Entry points print it without a traceback and exit with code 2.
    """


class ServiceError(UserError):
    """A server or a disk that evaluations need fails: what is evaluated may be tried again."""


def first_line(error: BaseException) -> str:
    """What an exception says, cut to its first line; its type if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def renamed(text: str, names: Mapping[str, str]) -> str:
    """A text that calls things by other names.

    Args:
        text: The text.
        names: What it says, to what it shall say instead.
    """
    for name, shown in names.items():
        text = text.replace(name, shown)
    return text


@contextmanager
def said_as(names: Mapping[str, str]) -> Iterator[None]:
    """Have the errors of the block call things by the names that the user gave them.

    Args:
        names: What errors say, to what they shall say instead.

    Raises:
        UserError: the block's own, in other words.
    """
    try:
        yield
    except UserError as error:
        raise type(error)(renamed(str(error), names)) from None


_LACKS_OF_MEMORY = (
    *(
        "out of memory",
        "not enough memory",
        "bad_alloc",
        "bad allocation",
        "alloc_failed",
        "allocation failed",
    ),
    *(f"{word} allocate" for word in ("can't", "cannot", "could not", "failed to", "unable to")),
)


def lacks_memory(error: BaseException) -> bool:
    """Tell whether memory was lacking; the system, NumPy, PyTorch and engines each say it differently."""
    text = str(error).lower()
    if isinstance(error, RuntimeError):
        return any(sign in text for sign in _LACKS_OF_MEMORY)
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    is_of_a_library = isinstance(error, ImportError | OSError) and "failed to map segment" in text
    return is_of_a_library or isinstance(error, MemoryError)


@contextmanager
def enough_memory(who_needs: Callable[[], str]) -> Iterator[None]:
    """Say in one line who ran out of memory, such as ``a.wav: needs``, if the block does.

    Raises:
        UserError: it does.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise UserError(
            f"{who_needs()} more memory than there is; cut it into parts, or take it off the list"
        ) from None


def is_being_created(error: Exception) -> bool:
    """Tell whether another process has just made the same table or entry of a database."""
    text = str(error).lower()
    return "unique constraint" in text or "already exists" in text
