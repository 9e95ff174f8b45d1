"""Records the evaluation of a mask in its MLflow run."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from speakerquant.credentials import hide_credentials
from speakerquant.engine.provenance import engine_path, provenance_path
from speakerquant.measuring.build import ONNX_FILE
from speakerquant.measuring.listener import EvaluationListener, MeasuredOn
from speakerquant.measuring.result import (
    DRAWS_FILE,
    LABELS_FILE,
    MASK_PREFIX,
    RANGES_FILE,
    RESULT_FILE,
    SCORES_FILE,
    Result,
)
from speakerquant.quantization.mask import Mask
from speakerquant.report.mask_words import mask_name
from speakerquant.report.run_words import run_words
from speakerquant.tracking.artifacts import ArtifactReference, keep_once
from speakerquant.tracking.recorded_runs import published_tags
from speakerquant.tracking.runs import COMMAND_TAG, ENVIRONMENT_TAG, UNREACHED, DataSet, TrackedRun

ARTIFACTS = (RESULT_FILE, ONNX_FILE, RANGES_FILE, SCORES_FILE, LABELS_FILE, DRAWS_FILE)


class RecordedEvaluation(EvaluationListener):
    """Logs what is known of a mask as soon as it is.

    Attributes:
        digests: Of what the mask is measured on, once that is known.

    Args:
        run: The MLflow run.
        folder: Where the mask leaves its files.
        prefix: Before the mask in the run's name.
        source: Where the recordings are.
        configuration: File with the configuration, if there is one.
    """

    def __init__(
        self, run: TrackedRun, folder: Path, prefix: str, source: str, configuration: Path | None
    ) -> None:
        self._run = run
        self._folder = folder
        self._prefix = prefix
        self._source = source
        self._configuration = configuration
        self.digests: Mapping[str, str] = {}

    def started(self, params: Mapping[str, object], command: str) -> None:
        """Log the configuration by dotted names, and what the user typed."""
        # The mask is recorded as it applies to the network, when that is known: patterns are no parameters.
        self._run.log(
            params={key: x for key, x in params.items() if not key.startswith(MASK_PREFIX)},
            tags={COMMAND_TAG: hide_credentials(command)},
        )

    def mask_known(self, mask: Mask) -> None:
        """Log the precision of every unit, and name the run by the mask."""
        self._run.rename(self._prefix + mask_name(mask.names))
        self._run.log(params={f"{MASK_PREFIX}{unit}": precision for unit, precision in mask.names.items()})

    def inputs_known(self, inputs: MeasuredOn) -> None:
        self.digests = inputs.digests
        ArtifactReference.forget(self._folder)
        environment = {"speakerquant": version("speakerquant"), **inputs.environment}
        self._run.log(
            params={
                **{f"digest.{name}": digest for name, digest in inputs.digests.items()},
                UNREACHED: inputs.unreached or None,
            },
            tags={f"{ENVIRONMENT_TAG}{name}": value for name, value in environment.items()},
        )
        data = inputs.data
        counts = {
            "trials": len(data.trials),
            "target trials": int(data.trials.labels.sum()),
            "recordings": len(data.recordings),
            "speakers": len(np.unique(data.speakers)),
        }
        name = f"{Path(self._source).name} {inputs.trial_list}"
        self._run.log_data_set(DataSet(name, data.trials_digest, self._source, "testing", counts))

    def finished(self, result: Result) -> None:
        self._run.log(
            params={"scores_from": result.scores_from},
            tags=published_tags(result.published) if result.published else {},
            metrics=result.metrics(),
            note=run_words(result.as_run()),
        )
        engine = engine_path(self._folder, result.engine)
        for path in (*(self._folder / name for name in ARTIFACTS), engine, provenance_path(engine)):
            self._run.log_artifact(path)
        if self._configuration:
            self._run.log_artifact(self._configuration)
        ArtifactReference.leave(self._run, self._folder)

    def keep_engine_once(self, engine: str) -> None:
        """Free the room that ONNX graph and engine take, which MLflow has too."""
        keep_once(self._run, [self._folder / ONNX_FILE, engine_path(self._folder, engine)])
