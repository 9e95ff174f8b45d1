"""Where tables are printed."""

from rich.console import Console

_LEAST = 150  # narrower terminals would fold a table's numbers
UNLIMITED = 10_000
"""Letters, more than a table has in a line."""


def table_console() -> Console:
    """Standard output: tables are folded on terminals only, and elsewhere as wide as they are."""
    console = Console()
    return Console(width=max(console.width, _LEAST) if console.is_terminal else UNLIMITED)
