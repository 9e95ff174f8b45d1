"""The one exception for mistakes a user can mend."""


class UserError(Exception):
    """Wrong input, said in one line: what is wrong, where it is, and what to do about it.

    Entry points print it without a traceback and exit with code 2.
    """
