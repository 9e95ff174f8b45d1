"""Progress bars on standard error: drawn for a person at a terminal, silent elsewhere."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> str:
        return f"{task.speed:.1f}/s" if task.speed else ""


def track(
    items: Iterable[T], description: str, total: int, *, completed: int = 0, visible: bool = True
) -> Iterator[T]:
    """Iterate over ``items`` behind a progress bar with count, rate and remaining time.

    Args:
        items: What is iterated over.
        description: What the bar says.
        total: Number of items, with those done before.
        completed: Number of those.
        visible: Whether to draw it at a terminal.
    """
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        disable=not (visible and console.is_terminal),
    ) as progress:
        task = progress.add_task(description, total=total, completed=completed)
        for item in items:
            yield item
            progress.advance(task)
