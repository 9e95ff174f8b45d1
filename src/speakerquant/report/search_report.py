"""What a search leaves for people: the front as a table, as files, and as pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speakerquant.files import atomic_path
from speakerquant.report.picture import Picture, draw_html
from speakerquant.report.search_files import FRONT_FILE, write_csv, write_json
from speakerquant.report.search_picture import effects_picture, search_picture
from speakerquant.report.table import (
    Column,
    Row,
    markdown_table,
    number_cells,
    number_columns,
    print_failures,
    print_lines,
    print_table,
)
from speakerquant.search.front import Entry, Front, front_of
from speakerquant.search.goals import Goals
from speakerquant.search.history import FAILURE, History
from speakerquant.search.space import Point
from speakerquant.search.view import Quantity, View

_TIES_NAMED = 4  # of the front; of others, the table gives their number, and the file all


@dataclass(frozen=True)
class SearchReport:
    """Writes and prints the front of a study.

    Attributes:
        study: Its name.
        goals: Its objectives and constraints.
        view: How to show them.
        command: The command that evaluates a point once more.
        folder: Where ``front.json``, ``.csv``, ``.md``, ``.png`` and ``.html`` go, and ``alone.png`` and
            ``.html`` if the view knows what choices do alone.
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
        document = self.folder / FRONT_FILE
        rows, text = (document.with_suffix(suffix) for suffix in (".csv", ".md"))
        ties = self._ties(front)
        annotations = self._annotations(history, ties)
        recommendation = self._recommendation(front.recommended, final_result)
        write_json(
            *(self.study, self.goals, history, front, annotations, self.command, final_result),
            recommendation,
            document,
        )
        write_csv(self.goals, front, rows)
        self._write_markdown(history, front, ties, recommendation, text)
        title = self._title(history, front)
        pictures = {"front": search_picture(front, self.view, title)} if front.entries else {}
        if effects := self.view.effects(history):
            pictures["alone"] = effects_picture(
                front, effects, self.view, f"{title}, one choice changed at a time"
            )
        return [document, rows, text, *self._draw(pictures)]

    def _draw(self, pictures: Mapping[str, Picture]) -> list[Path]:
        """Draw pictures into files by their names."""
        paths = []
        if pictures:  # only who draws waits for Matplotlib
            from speakerquant.report.png_picture import draw_png
        for name, picture in pictures.items():
            png, html = (self.folder / f"{name}.{suffix}" for suffix in ("png", "html"))
            draw_png([picture], png)
            draw_html(picture, html)
            paths += [png, html]
        return paths

    def _write_markdown(
        self,
        history: History,
        front: Front,
        ties: Mapping[int, Sequence[int]],
        recommendation: Sequence[str],
        path: Path,
    ) -> None:
        table = markdown_table(
            [column.heading for column in self._columns],
            [self._cells(entry, ties) for entry in front.best],
        )
        parts = [f"**{self._title(history, front)}**", *recommendation, table, *self._remarks(front)]
        with atomic_path(path) as part:
            part.write_text("\n\n".join(parts) + "\n", encoding="utf-8")

    def print(self, history: History, final_result: Mapping[str, Any] | None = None) -> None:
        """Print the front, the recommended point and how to evaluate it again."""
        front = front_of(history, self.goals)
        ties = self._ties(front)
        rows = [
            Row(self._cells(entry, ties), style="bold" if entry is front.recommended else "")
            for entry in front.best
        ]
        print_table(self._title(history, front), self._columns, rows)
        print_lines([*self._remarks(front), *self._recommendation(front.recommended, final_result)])
        print_failures(f"trial {trial.number}: {trial.user_attrs.get(FAILURE)}" for trial in history.failed)

    @property
    def _columns(self) -> list[Column]:
        columns = [
            Column("trial", is_number=True),
            Column(self.view.point_heading),
            *number_columns(self._quantities.values()),
            Column("tied with trials"),
        ]
        if self.goals.constraints:
            bounds = [f"{name} ≤ {bound:g}" for name, bound in self.goals.constraints.items()]
            columns.append(Column(", ".join(bounds)))
        return columns

    @property
    def _quantities(self) -> dict[str, Quantity]:
        """What the table shows: the numbers of the view and those that the search is for."""
        return {name: self.view.quantity(name) for name in (*self.view.columns, *self.goals.objectives)}

    def _recommendation(self, recommended: Entry | None, final_result: Mapping[str, Any] | None) -> list[str]:
        if recommended is None:
            return ["recommended: nothing that was measured meets the constraints"]
        place = self.view.place(recommended.result if final_result is None else final_result)
        return [
            f"recommended: trial {recommended.number}, {self.view.describe(recommended.point)}",
            self._numbers(recommended.result, searched=True),
            *([] if final_result is None else [self._numbers(final_result, searched=False)]),
            *([f"  {place}"] if place else []),
            f"  {self.command(recommended.point)}",
        ]

    def _numbers(self, result: Mapping[str, Any], *, searched: bool) -> str:
        quantities = self._quantities
        cells = zip(quantities.values(), number_cells(quantities, result), strict=True)
        numbers = ", ".join(f"{quantity.label} {cell}" for quantity, cell in cells)
        return f"  {self.view.data(result, searched=searched)}: {numbers}"

    def _title(self, history: History, front: Front) -> str:
        failed = [f"{len(history.failed)} failed"] if history.failed else []
        measured_on = [self.view.data(entry.result, searched=True) for entry in front.entries[:1]]
        title = f"{self.study}: {len(history.finished)} of {self.n_trials} trials"
        return ", ".join([title, *failed, *measured_on])

    def _remarks(self, front: Front) -> Sequence[str]:
        return self.view.remarks([entry.point for entry in front.best])

    def _annotations(self, history: History, ties: Mapping[int, Sequence[int]]) -> dict[int, dict[str, Any]]:
        """What is known of each trial of the front beside its result."""
        predictions = self.view.predictions(history)
        return {
            number: {"tied_with": tied, "predicted": predictions.get(number)} for number, tied in ties.items()
        }

    def _ties(self, front: Front) -> dict[int, list[int]]:
        """By number of each trial of the front, the other trials that nothing shows to be better or worse."""
        return {
            best.number: [
                other.number
                for other in front.entries
                if other is not best and self.view.is_tie(best.result, other.result)
            ]
            for best in front.best
        }

    def _cells(self, entry: Entry, ties: Mapping[int, Sequence[int]]) -> list[str]:
        tied = ties[entry.number]
        named = [number for number in tied if number in ties][:_TIES_NAMED]  # rows of the same table
        number = len(tied) - len(named)
        others = f"{number} other{'s' if number > 1 else ''}" if number else ""
        cells = [
            str(entry.number),
            self.view.describe(entry.point),
            *number_cells(self._quantities, entry.result),
            " and ".join(filter(None, (", ".join(map(str, named)), others))),
        ]
        return [*cells, "yes" if entry.meets_constraints else "no"] if self.goals.constraints else cells
