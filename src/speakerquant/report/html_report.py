"""A report as one HTML file that needs no network, and as Markdown."""

from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

import plotly.io
from jinja2 import Environment
from plotly.offline import get_plotlyjs

from speakerquant.files import atomic_path
from speakerquant.report.comparison import Report, Section
from speakerquant.report.picture import PLOTLY_CONFIG, Picture, to_plotly
from speakerquant.report.table import markdown_list, markdown_table

_TEMPLATE = "report.html.jinja"


def write_html(report: Report, path: Path) -> None:
    """Write the page: light or dark as the reader's system is, for wide screens and narrow ones."""
    environment = Environment(autoescape=True)
    environment.filters["drawn"] = _drawn
    template = environment.from_string(files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    page = template.render(report=report, plotly=get_plotlyjs())
    with atomic_path(path) as part:
        part.write_text(page, encoding="utf-8")


def _drawn(picture: Picture) -> str:
    drawn: str = plotly.io.to_html(
        to_plotly(picture), full_html=False, include_plotlyjs=False, config=PLOTLY_CONFIG
    )
    return drawn


def _markdown_sections(sections: Iterable[Section]) -> Iterator[str]:
    for section in sections:
        for table in section.tables:
            yield f"## {section.titled(table.title)}\n\n{markdown_table(table.headings, table.rows)}"


def write_markdown(report: Report, path: Path) -> None:
    """Write the same without pictures."""
    parts = [f"# {report.title}"]
    if report.missing:
        parts.append(f"Not shown:\n\n{markdown_list(report.missing)}")
    parts += _markdown_sections(report.sections)
    if report.recommendation:
        parts.append("\n".join(["## Recommended\n\n```text", *report.recommendation, "```"]))
    parts += _markdown_sections(report.ranges)
    facts = "\n".join(f"- {name}: {value}" for name, value in report.facts.items())
    parts.append(f"## What was measured\n\n{facts}")
    if report.commands:
        commands = "\n".join(f"- {name}: `{command}`" for name, command in report.commands.items())
        parts.append(f"## Commands\n\n{commands}")
    with atomic_path(path) as part:
        part.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
