"""Views of MLflow's UI: masks of a multirun or search as a flat table with the columns they differ in."""

import base64
import json
import logging
import zlib
from collections.abc import Sequence

from mlflow.exceptions import MlflowException

from speakerquant.errors import first_line
from speakerquant.measuring.engine_metrics import LATENCY
from speakerquant.tracking.client import Tracking, runs_address
from speakerquant.tracking.runs import STUDY_TAG, SUMMARY

log = logging.getLogger(__name__)

_VIEW_TAG = "mlflow.sharedViewState."  # of the experiment, before the view's key
_COMPRESSED = "deflate;"  # before such a view
_NAME = "attributes.`Run Name`"
_NAME_PIXELS, _PIXELS = 150, 85  # widths of columns


def share_masks(tracking: Tracking, parent_id: str, params: Sequence[str], study: str | None = None) -> str:
    """Set up the view of the masks of a multirun or search, the smallest first.

    Args:
        tracking: The experiment.
        parent_id: The multirun or search.
        params: Names of the parameters to show, in order.
        study: Name of the search's study, as what is evaluated at its end on other data is no part of it.

    Returns:
        A link in Markdown, relative to the server; to all runs if the store refuses the view.
    """
    columns = [
        *(f"metrics.`{name}`" for name in (*SUMMARY, LATENCY.name)),
        *(f"params.`{name}`" for name in params),
    ]
    of_study = f" and tags.`{STUDY_TAG}` = '{study}'" if study else ""
    view = {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{parent_id}'{of_study}",
        "orderByKey": columns[0],
        "orderByAsc": True,
        "startTime": "ALL",
        "selectedColumns": columns,
        "columnOrder": [_NAME, *columns],
        "columnWidths": {_NAME: _NAME_PIXELS, **dict.fromkeys(columns, _PIXELS)},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(view).encode())).decode()  # stores limit the length
    try:
        tracking.client.set_experiment_tag(
            tracking.experiment_id, f"{_VIEW_TAG}{parent_id}", f"{_COMPRESSED}{packed}"
        )
    except MlflowException as error:
        log.warning("MLflow could not set up the view of the masks: %s", first_line(error))
        address = runs_address("", tracking.experiment_id)
    else:
        address = runs_address("", tracking.experiment_id, view=parent_id)
    return f"[Masks in a table of their own, the smallest first]({address})"


def masks_address(tracking: Tracking, server: str, parent_id: str) -> str | None:
    """Where a server shows the masks of a multirun or search; none if no view has been set up for it."""
    tags = tracking.client.get_experiment(tracking.experiment_id).tags
    if f"{_VIEW_TAG}{parent_id}" not in tags:
        return None
    return runs_address(server, tracking.experiment_id, view=parent_id)
