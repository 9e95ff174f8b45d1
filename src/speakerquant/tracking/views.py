"""Views of MLflow's UI: the masks of a multirun as a flat table, with the columns that tell them apart."""

import base64
import json
import logging
import zlib
from collections.abc import Sequence

from mlflow.exceptions import MlflowException

from speakerquant.errors import first_line
from speakerquant.tracking.client import Tracking, runs_address

log = logging.getLogger(__name__)

_VIEW_TAG = "mlflow.sharedViewState."  # of the experiment, before the view's key
_COMPRESSED = "deflate;"  # before such a view
_NAME = "attributes.`Run Name`"
_NAME_PIXELS, _PIXELS = 150, 85  # widths of columns


def share_masks(tracking: Tracking, parent_id: str, metrics: Sequence[str], params: Sequence[str]) -> str:
    """Set up the view of a multirun's masks, sorted by the first metric.

    Args:
        tracking: The experiment.
        parent_id: The multirun.
        metrics: Names of the metrics to show, in order.
        params: Names of the parameters to show, in order.

    Returns:
        The view's address, relative to the server; that of all runs if the store refuses the view.
    """
    columns = [
        *(f"metrics.`{name}`" for name in metrics),
        *(f"params.`{name}`" for name in params),
    ]
    view = {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{parent_id}'",
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
        return runs_address("", tracking.experiment_id)
    return runs_address("", tracking.experiment_id, view=parent_id)


def masks_address(tracking: Tracking, server: str, parent_id: str) -> str | None:
    """Where a server shows the masks of a multirun; none if no view has been set up for it."""
    tags = tracking.client.get_experiment(tracking.experiment_id).tags
    if f"{_VIEW_TAG}{parent_id}" not in tags:
        return None
    return runs_address(server, tracking.experiment_id, view=parent_id)
