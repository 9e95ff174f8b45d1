"""Results as a table, printed to standard output."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from speakerquant.console import UNLIMITED, table_console
from speakerquant.search.goals import find
from speakerquant.search.view import Quantity

NOTHING = "-"
"""Stands for a number that was not measured."""

_LONGEST_WORD = 20  # of a heading that is not broken: letters


@dataclass(frozen=True)
class Column:
    """A column: words on the left, numbers on the right."""

    heading: str
    is_number: bool = False
    style: str = ""


@dataclass(frozen=True)
class Row:
    """A row, with a style in Rich's terms."""

    cells: Sequence[str]
    style: str = ""


def number_columns(quantities: Iterable[Quantity], style: str = "") -> list[Column]:
    """A column for each quantity, under its label."""
    return [Column(quantity.label, is_number=True, style=style) for quantity in quantities]


def number_cells(quantities: Mapping[str, Quantity], result: Mapping[str, Any]) -> list[str]:
    """The result's numbers of these (dotted) names, as their quantities are shown, with their intervals."""
    return [_cell(name, quantity, result) for name, quantity in quantities.items()]


def _cell(name: str, quantity: Quantity, result: Mapping[str, Any]) -> str:
    value = find(result, name)
    if value is None:
        return NOTHING
    interval = interval_of(quantity, result)
    if interval is None:
        return quantity.text(value)
    low, high = map(quantity.text, interval)
    return f"{quantity.text(value)} [{low}, {high}]"


def interval_of(quantity: Quantity, result: Mapping[str, Any]) -> tuple[float, float] | None:
    """Where a number of the result lies with confidence, from low to high; none if that is not known."""
    ends = [find(result, name) for name in quantity.interval or ()]
    return (float(ends[0]), float(ends[1])) if ends and None not in ends else None


def print_table(title: str, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """Print the rows below their headings."""
    console, shown = table_console(), [*rows]
    table = Table(title=escape(title), title_justify="left", min_width=len(title))
    for place, column in enumerate(columns):
        heading, width = column.heading, None
        if column.is_number and console.is_terminal:
            heading, width = _narrow(heading, [row.cells[place] for row in shown])
        table.add_column(
            escape(heading),
            justify="right" if column.is_number else "left",
            style=column.style,
            overflow="fold",
            min_width=width,
            no_wrap=width is not None,
        )
    for row in shown:
        table.add_row(*map(escape, row.cells), style=row.style)
    # Without room for the numbers and the longest words, Rich would cut off what it cannot fold.
    unlimited = console.options.update(max_width=UNLIMITED)
    console.width = max(console.width, Measurement.get(console, unlimited, table).minimum)
    console.print(table)


def _narrow(heading: str, cells: Sequence[str]) -> tuple[str, int]:
    """The heading in lines as long as the numbers below, or as its words if these are no paths; how long."""
    words = (min(len(word), _LONGEST_WORD) for word in heading.split())
    width = max([*map(len, cells), *words])
    return textwrap.fill(heading, width), width


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns from the second on are numbers."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    cells = ([cell.replace("|", r"\|") for cell in row] for row in (headings, rule, *rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def markdown_list(lines: Iterable[str]) -> str:
    """A list of the lines, as they are: ``<id>`` is no tag."""
    return "\n".join(f"- {line}".replace("<", "&lt;") for line in lines)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they are, however long."""
    _print(map(escape, lines))


def print_failures(reasons: Iterable[str]) -> None:
    """Print what failed, one line each."""
    _print(f"[red]failed[/red] {escape(reason)}" for reason in reasons)


def _print(lines: Iterable[str]) -> None:
    console = table_console()
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
