"""The front of a search as files for other programs."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speakerquant.files import atomic_path
from speakerquant.search.front import Entry, Front
from speakerquant.search.goals import Goals
from speakerquant.search.history import REPEAT_OF, History
from speakerquant.search.space import Point

FRONT_FILE = "front.json"
_RECOMMENDATION = "recommendation"


def write_json(
    study: str,
    goals: Goals,
    history: History,
    front: Front,
    annotations: Mapping[int, Mapping[str, Any]],
    command: Callable[[Point], str],
    final_result: Mapping[str, Any] | None,
    recommendation: Sequence[str],
    path: Path,
) -> None:
    """Write the front with its annotations, and the recommended point with its command and final result.

    The recommendation is written in words too, as lines, by which it is shown again.
    """
    recommended = front.recommended
    document = {
        "study": study,
        "objectives": dict(goals.objectives),
        "constraints": dict(goals.constraints),
        "trials": {
            "finished": len(history.finished),
            "failed": len(history.failed),
            "repeats": sum(REPEAT_OF in trial.user_attrs for trial in history.trials),
            "interrupted": sum(history.interruptions.values()),
        },
        "front": [{**_record(entry), **annotations[entry.number]} for entry in front.best],
        "recommended": recommended
        and {
            **_record(recommended),
            "command": command(recommended.point),
            "final_result": final_result,
        },
        _RECOMMENDATION: list(recommendation),
    }
    with atomic_path(path) as part:
        part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def read_recommendation(path: Path) -> list[str]:
    """What a file of :func:`write_json` says of the recommended point, in lines."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return list(document.get(_RECOMMENDATION, []))  # files of earlier versions have none


def write_csv(goals: Goals, front: Front, path: Path) -> None:
    """Write a row for every point of the front: its trial, the point, and the objectives."""
    axes: Sequence[str] = list(front.best[0].point) if front.best else []
    with atomic_path(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", *axes, *goals.objectives, "meets_constraints"])
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
