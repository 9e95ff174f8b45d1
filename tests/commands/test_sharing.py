"""What jobs of a multirun share must not change what they measure."""

from pathlib import Path

import numpy as np

from speakerquant.measuring.result import SCORES_FILE

from .conftest import Command, Workspace, results

METHODS = ("max", "percentile")


def test_jobs_that_differ_in_more_than_the_mask_measure_what_single_runs_do(
    workspace: Workspace, speakerquant: Command, tmp_path: Path
) -> None:
    arguments = [*workspace.arguments(), "engine=onnxruntime", "mask=all"]
    methods = f"calibration.method={','.join(METHODS)}"
    assert speakerquant("-m", *arguments, methods, f"hydra.sweep.dir={tmp_path / 'jobs'}").code == 0
    for method in METHODS:
        alone = f"hydra.run.dir={tmp_path / 'alone' / method}"
        assert speakerquant(*arguments, f"calibration.method={method}", alone).code == 0
    jobs, runs = results(tmp_path / "jobs"), results(tmp_path / "alone")
    assert [each["engine_sha256"] for each in jobs] == [each["engine_sha256"] for each in runs]
    assert len({each["engine_sha256"] for each in jobs}) == len(METHODS)
    scores = [
        [np.load(path) for path in sorted((tmp_path / folder).rglob(SCORES_FILE))]
        for folder in ("jobs", "alone")
    ]
    assert np.array_equal(*scores)
