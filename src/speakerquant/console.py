"""Where tables are printed."""

from rich.console import Console

_WIDTH = 150


def table_console() -> Console:
    """Standard output: a narrow terminal would fold a table's numbers, and a pipe has no width at all."""
    return Console(width=max(Console().width, _WIDTH))
