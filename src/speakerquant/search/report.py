"""What a search leaves for people: the front as a table, as files, and as pictures."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from speakerquant.cache import atomic_path
from speakerquant.console import table_console
from speakerquant.search.front import Entry, Front, front_of
from speakerquant.search.goals import Goals
from speakerquant.search.history import FAILURE, REPEAT_OF, History
from speakerquant.search.plot import plot_html, plot_png
from speakerquant.search.space import Point
from speakerquant.search.view import View


@dataclass(frozen=True)
class Report:
    """Writes and prints the front of a study.

    Attributes:
        study: Its name.
        goals: Its objectives and constraints.
        view: How to show them.
        command: The command that evaluates a point once more.
        folder: Where ``front.json``, ``front.csv``, ``front.png`` and ``front.html`` go.
        n_trials: How many trials there will be.
    """

    study: str
    goals: Goals
    view: View
    command: Callable[[Point], str]
    folder: Path
    n_trials: int

    def write(self, history: History, final_result: Mapping[str, Any] | None = None) -> list[Path]:
        """Write the files; ``final_result`` is what the recommended point measured on unseen data."""
        front = front_of(history, self.goals)
        paths = [self.folder / f"front.{suffix}" for suffix in ("json", "csv", "png", "html")]
        with atomic_path(paths[0]) as part:
            part.write_text(json.dumps(self._document(history, front, final_result), indent=2) + "\n")
        with atomic_path(paths[1]) as part:
            self._write_csv(front, part)
        plot_png(front, self.view, self._title(history), paths[2])
        plot_html(front, self.view, self._title(history), paths[3])
        return paths

    def print(self, history: History, final_result: Mapping[str, Any] | None = None) -> None:
        """Print the front, the recommended point and how to evaluate it again."""
        front = front_of(history, self.goals)
        measured_on = [self.view.data(entry.result, searched=True) for entry in front.entries[:1]]
        title = ", ".join([self._title(history), *measured_on])
        table = Table(title=escape(title), title_justify="left", min_width=len(title))
        table.add_column("trial", justify="right")
        table.add_column(self.view.point_heading)
        for heading in self.view.headings:
            table.add_column(heading, justify="right")
        if self.goals.constraints:
            table.add_column(
                ", ".join(f"{name} ≤ {bound:g}" for name, bound in self.goals.constraints.items())
            )
        for entry in front.best:
            table.add_row(*self._cells(entry), style="bold" if entry is front.recommended else "")
        console = table_console()
        console.print(table)
        self._print_recommended(console, front.recommended, final_result)
        for trial in history.failed:
            reason = escape(f"trial {trial.number}: {trial.user_attrs.get(FAILURE)}")
            console.print(f"[red]failed[/red] {reason}", soft_wrap=True, highlight=False)

    def _print_recommended(
        self, console: Console, recommended: Entry | None, final_result: Mapping[str, Any] | None
    ) -> None:
        if recommended is None:
            console.print("recommended: nothing yet meets the constraints", highlight=False)
            return
        lines = [
            f"recommended: trial {recommended.number}, {self.view.describe(recommended.point)}",
            self._figures(recommended.result, searched=True),
            *([] if final_result is None else [self._figures(final_result, searched=False)]),
            f"  {self.command(recommended.point)}",
        ]
        for line in lines:
            console.print(escape(line), soft_wrap=True, highlight=False)

    def _figures(self, result: Mapping[str, Any], *, searched: bool) -> str:
        cells = zip(self.view.headings, self.view.cells(result), strict=True)
        figures = ", ".join(f"{heading} {cell}" for heading, cell in cells)
        return f"  {self.view.data(result, searched=searched)}: {figures}"

    def _title(self, history: History) -> str:
        failed = f", {len(history.failed)} failed" if history.failed else ""
        return f"{self.study}: {len(history.finished)} of {self.n_trials} trials{failed}"

    def _cells(self, entry: Entry) -> list[str]:
        cells = [str(entry.number), escape(self.view.describe(entry.point)), *self.view.cells(entry.result)]
        return [*cells, "yes" if entry.meets_constraints else "no"] if self.goals.constraints else cells

    def _document(
        self, history: History, front: Front, final_result: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        recommended = front.recommended
        return {
            "study": self.study,
            "objectives": dict(self.goals.objectives),
            "constraints": dict(self.goals.constraints),
            "trials": {
                "finished": len(history.finished),
                "failed": len(history.failed),
                "repeats": sum(REPEAT_OF in trial.user_attrs for trial in history.trials),
                "interrupted": sum(history.interruptions.values()),
            },
            "front": [_record(entry) for entry in front.best],
            "recommended": recommended
            and {
                **_record(recommended),
                "command": self.command(recommended.point),
                "final_result": final_result,
            },
        }

    def _write_csv(self, front: Front, path: Path) -> None:
        axes: Sequence[str] = list(front.best[0].point) if front.best else []
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["trial", *axes, *self.goals.objectives, "meets_constraints"])
            for entry in front.best:
                writer.writerow(
                    [entry.number, *entry.point.values(), *entry.values.values(), entry.meets_constraints]
                )


def _record(entry: Entry) -> dict[str, Any]:
    return {
        "trial": entry.number,
        "point": dict(entry.point),
        "values": dict(entry.values),
        "meets_constraints": entry.meets_constraints,
        "result": dict(entry.result),
    }
