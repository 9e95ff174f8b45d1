"""Reads recorded runs back from MLflow."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mlflow.entities import LifecycleStage, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from speakerquant.errors import UserError, first_line
from speakerquant.measuring.result import MASK_PREFIX, PUBLISHED_PREFIX, UNFINISHED, MaskRun, Published, below
from speakerquant.statistics.score_norm import ScoreNorm
from speakerquant.tracking.client import Tracking, find_experiment_of_run, is_missing, mlflow_settings
from speakerquant.tracking.runs import (
    COMMAND_TAG,
    DIED,
    ENVIRONMENT_TAG,
    FAILURE_TAG,
    JOBS_TAG,
    MASK,
    STUDY_TAG,
    TRIALS_TAG,
    UNREACHED,
    TrackedRun,
    close_dead_run,
)

Runs = Sequence[Run]
"""Runs as MLflow describes them."""

_PAGE = 1000
_ID = re.compile(r"[\w-]+")
WITHOUT_BARS = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
_LABEL_TAG, _SOURCE_TAG = f"{PUBLISHED_PREFIX}label", f"{PUBLISHED_PREFIX}source"
_DIGEST = "digest."
_FACTS = {
    f"{_DIGEST}trials": "trial list",
    f"{_DIGEST}recordings": "recordings",
    f"{_DIGEST}cohort": "cohort",
}
_MADE_WITH = {
    f"{_DIGEST}checkpoint": "checkpoint",
    f"{_DIGEST}calibration": "calibration recordings",
    f"{_DIGEST}rounding": "rounding recordings",
    f"{_DIGEST}speakers": "speakers",
    f"{_DIGEST}conditions": "conditions",
    f"{_DIGEST}development": "development list",
    UNREACHED: "in FP32 whatever the mask",
}
DIGESTS_IN_WORDS = {
    name.removeprefix(_DIGEST): words
    for name, words in {**_FACTS, **_MADE_WITH}.items()
    if name.startswith(_DIGEST)
}
"""What runs are measured on, by the names of its digests."""
_NO_SETTINGS = {MASK, "digest", UNREACHED, "scores_from", "tracking", "cache", "front", "space"}
"""First parts of the names of parameters that say nothing of how a mask was measured."""


def mask_runs(runs: Runs) -> list[MaskRun]:
    """Runs as tables and pictures show them."""
    return [_mask_run(run) for run in runs]


def rename_runs(tracking: Tracking, runs: Runs, names: Sequence[str]) -> None:
    """Give runs other names, in their order."""
    for run, name in zip(runs, names, strict=True):
        if run.info.run_name != name:
            TrackedRun(tracking, run.info.run_id).rename(name)


def _of_first_study(runs: Runs) -> Runs:
    """Without the final evaluation, which is of another study and comes last."""
    return [run for run in runs if run.data.tags.get(STUDY_TAG) == runs[0].data.tags.get(STUDY_TAG)]


def _found(tracking: Tracking, run_id: str) -> Run | None:
    """The run, deleted or not; none if it is not, or not any more, in the store."""
    try:
        return tracking.client.get_run(run_id)
    except MlflowException as error:
        if not is_missing(error):
            raise
        return None


def missing_runs(tracking: Tracking, parent_id: str, runs: Runs) -> list[str]:
    """What is missing of a multirun, in sentences: deleted, not started, or of a search recorded elsewhere.

    Args:
        tracking: The experiment.
        parent_id: The multirun.
        runs: Its :func:`children` that are there.
    """
    parent = _found(tracking, parent_id)
    runs = _of_first_study(runs)
    deleted = _of_first_study(children(tracking, parent_id, ViewType.DELETED_ONLY))
    sentences = []
    if parent is None and runs:
        sentences.append("its own run is gone for good")
    if parent and parent.info.lifecycle_stage == LifecycleStage.DELETED:
        sentences.append("it was deleted in MLflow, where it can be restored")
    if deleted:
        sentences.append(f"{len(deleted)} of its runs were deleted in MLflow, where they can be restored")
    num_jobs = int(parent.data.tags.get(JOBS_TAG, 0)) if parent else 0
    if num_jobs > (num_recorded := len(runs) + len(deleted)):
        sentences.append(f"{num_jobs - num_recorded} of its {num_jobs} runs were not recorded, or not yet")
    num_finished = sum(run.info.status == "FINISHED" for run in (*runs, *deleted))
    num_trials = int(parent.data.tags.get(TRIALS_TAG, 0)) if parent else 0
    if num_trials > num_finished:
        sentences.append(
            f"{num_trials - num_finished} of {num_trials} trials of this search have no run here"
        )
    return sentences


def no_multirun(tracking: Tracking, run_id: str) -> str:
    """What a run is instead that no others belong to, in words."""
    run = _found(tracking, run_id)
    if run is None:
        return "no such run in this MLflow store"
    if run.info.experiment_id != tracking.experiment_id:
        name = tracking.client.get_experiment(run.info.experiment_id).name
        return f"a run of another MLflow experiment; set tracking.experiment={name}"
    parent: str | None = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
    return f"a run of the multirun {parent}" if parent else "a run alone, not of a multirun"


def find_mask_run(uri: str, run_id: str) -> TrackedRun:
    """Find the run of a mask in a store.

    Raises:
        UserError: it is that of a multirun, or as
            :func:`speakerquant.tracking.client.find_experiment_of_run`.
    """
    tracking = find_experiment_of_run(uri, run_id)
    if runs := [run for run in children(tracking, run_id) if run.info.status == "FINISHED"]:
        trials = _of_first_study(runs)
        finals = [run for run in runs if run not in trials]
        last = (finals or runs)[-1]
        raise UserError(
            f"run {run_id} is a multirun or a search; give one of its {len(runs)} runs, such as "
            f"{last.info.run_id} ({last.info.run_name})"
        )
    return TrackedRun(tracking, run_id)


def fail_running(tracking: Tracking, parent_id: str) -> None:
    """Close the runs of a finished multirun that are still open because their processes died."""
    for run in children(tracking, parent_id):
        if run.info.status == "RUNNING":
            TrackedRun(tracking, run.info.run_id).fail(DIED)


def close_dead_multirun(tracking: Tracking, run_id: str) -> None:
    """Close a multirun that is still open as its process died, with its runs; searches close their own."""
    run = _found(tracking, run_id)
    if run and JOBS_TAG in run.data.tags and run.info.status == "RUNNING":
        fail_running(Tracking(tracking.client, run.info.experiment_id), run_id)
        close_dead_run(tracking, run_id)


def latest_multirun(tracking: Tracking) -> str:
    """The run id of the multirun that started last.

    Raises:
        UserError: the experiment has none.
    """
    runs = tracking.client.search_runs(
        [tracking.experiment_id],
        filter_string=f"tags.`{MLFLOW_PARENT_RUN_ID}` != ''",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not runs:
        raise UserError(
            "no multirun in this MLflow experiment; run one, such as: speakerquant experiment=per_unit"
        )
    parent: str = runs[0].data.tags[MLFLOW_PARENT_RUN_ID]
    return parent


def run_name(tracking: Tracking, run_id: str) -> str:
    """What a run was recorded as; its id if it is gone."""
    run = _found(tracking, run_id)
    return (run and run.info.run_name) or run_id


def _mask_run(run: Run) -> MaskRun:
    """A run as tables and pictures show it; its mask is recorded as one parameter for each unit."""
    failure = None
    if run.info.status == "RUNNING":
        failure = UNFINISHED
    elif run.info.status != "FINISHED":
        failure = run.data.tags.get(FAILURE_TAG, run.info.status.lower())
    metrics = dict(run.data.metrics)
    scores_from = None if metrics.get("executed", True) else run.data.params.get("scores_from")
    params, tags = run.data.params, run.data.tags
    return MaskRun(
        below(MASK_PREFIX, params),
        metrics,
        failure,
        params.get(MASK) or run.info.run_name or "",
        scores_from,
        _published(run),
        settings={x: value for x, value in params.items() if x.partition(".")[0] not in _NO_SETTINGS},
        facts=_facts(run),
        made_with=_made_with(run),
        environment=below(ENVIRONMENT_TAG, tags),
        command=tags.get(COMMAND_TAG, ""),
        multirun=tags.get(MLFLOW_PARENT_RUN_ID, ""),
    )


def _facts(run: Run) -> dict[str, str]:
    """What must be equal for runs to be compared: with repeated trials left out, a list is another one."""
    params, metrics = run.data.params, run.data.metrics
    facts = _in_words(run, _FACTS)
    if "num_trials" in metrics:
        facts["trials"] = f"{metrics['num_trials']:.0f}"
    if norm := params.get("scoring.norm"):
        is_adaptive = norm == ScoreNorm.as_norm
        facts["score normalisation"] = f"{norm} of {params['scoring.top_n']}" if is_adaptive else norm
    return facts


def _made_with(run: Run) -> dict[str, str]:
    bits = run.data.metrics.get("weight_bits")
    return _in_words(run, _MADE_WITH) | ({"weight bits": f"{bits:.0f}"} if bits else {})


def _in_words(run: Run, words: Mapping[str, str]) -> dict[str, str]:
    """The parameters of these names that the run has, by what they are called in words."""
    return {words[name]: run.data.params[name] for name in words if run.data.params.get(name)}


def published_tags(published: Published) -> dict[str, str]:
    """The tags by which a run's published numbers are read back."""
    return {_LABEL_TAG: published.label, _SOURCE_TAG: published.source}


def _published(run: Run) -> Published | None:
    """What others have published of a run's mask, as it was recorded with the run."""
    tags = run.data.tags
    if _LABEL_TAG not in tags:
        return None
    return Published(tags[_LABEL_TAG], tags[_SOURCE_TAG], below(PUBLISHED_PREFIX, run.data.metrics))


def downloaded(tracking: Tracking, runs: Runs, artifact: str, folder: Path) -> Iterator[Path | None]:
    """Copies of an artifact of every run, in their order.

    Args:
        tracking: The experiment.
        runs: The runs.
        artifact: Name of the artifact.
        folder: Where the copies go.

    Yields:
        None in place of a run that has no such artifact, any more.
    """
    for number, run in enumerate(runs):
        place = folder / str(number)
        place.mkdir(parents=True)
        try:
            copy = _copied(tracking, run, artifact, place)
        except Exception:  # of whatever library reads the store of the artifacts
            copy = None
        yield copy


def downloaded_file(tracking: Tracking, run_id: str, artifact: str, folder: Path) -> Path:
    """A copy of an artifact of a run, in the folder.

    Raises:
        UserError: there is no such run, or it has no such artifact, any more.
    """
    try:
        return _copied(tracking, tracking.client.get_run(run_id), artifact, folder)
    except Exception as error:  # of whatever library reads the store of the artifacts
        raise UserError(
            f"run={run_id}: has no {artifact} ({first_line(error)}); evaluate its mask again"
        ) from None


def _copied(tracking: Tracking, run: Run, artifact: str, folder: Path) -> Path:
    """A copy from where the run says; the client would look up run and models anew for every file."""
    place = get_artifact_repository(run.info.artifact_uri, tracking.client.tracking_uri)
    with mlflow_settings(WITHOUT_BARS):
        return Path(place.download_artifacts(artifact, str(folder)))  # type: ignore[no-untyped-call]


def children(tracking: Tracking, parent_id: str, which: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """The runs of a multirun, in the order in which they started; none if there is no such multirun.

    Of a search these are its trials and the final evaluation, which is on other data.

    Args:
        tracking: The experiment.
        parent_id: The multirun.
        which: Those that are there, or those that were deleted.
    """
    if not _ID.fullmatch(parent_id):  # a quote would end the text that the filter compares with
        return []
    runs: list[Run] = []
    token: str | None = None
    while token != "":
        page = tracking.client.search_runs(
            [tracking.experiment_id],
            filter_string=f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_id}'",
            order_by=["attributes.start_time ASC"],
            run_view_type=which,
            max_results=_PAGE,
            page_token=token,
        )
        runs.extend(page)
        token = page.token or ""
    return runs
