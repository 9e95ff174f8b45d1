"""Progress bars on standard error: drawn for a person at a terminal, silent elsewhere."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def track(items: Iterable[T], description: str, total: int, *, visible: bool = True) -> Iterator[T]:
    """Iterate over ``items`` behind a progress bar with the count and the remaining time."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not (visible and console.is_terminal),
    ) as progress:
        yield from progress.track(items, total=total, description=description)
