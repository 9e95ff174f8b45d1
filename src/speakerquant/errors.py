"""The one exception for mistakes a user can mend."""


class UserError(Exception):
    """Wrong input, said in one line: what is wrong, where it is, and what to do about it.

    Entry points print it without a traceback and exit with code 2.
    """


def first_line(error: BaseException) -> str:
    """What an exception says, cut to its first line; its type if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
