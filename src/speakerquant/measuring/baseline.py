"""The baseline that masks are compared with: measured once, kept with its scores and embeddings."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerquant import schema_versions
from speakerquant.architectures.units import Units
from speakerquant.files import digest
from speakerquant.measuring.pipeline import Measurement, MeasurementPipeline
from speakerquant.quantization.mask import baseline_mask
from speakerquant.statistics.scores import Embeddings

_SIZE, _SCORES, _EMBEDDINGS, _COHORT = "size.json", "scores.npy", "embeddings.npy", "cohort.npy"


@dataclass(frozen=True)
class Baseline:
    """The engine of the network as it was trained, in FP32.

    Attributes:
        size_bytes: Size of its engine.
        scores: ``[num_trials]``, from which its error metrics follow.
        embeddings: ``[num_recordings, dim]``.
        cohort: ``[num_cohort, dim]``, should there be a cohort.
    """

    size_bytes: int
    scores: npt.NDArray[np.float64]
    embeddings: Embeddings
    cohort: Embeddings | None


def measured_baseline(
    pipeline: MeasurementPipeline, units: Units, identity: object, known: Measurement | None = None
) -> Baseline:
    """The baseline, from the cache or measured now.

    Args:
        pipeline: What measures masks.
        units: The network's.
        identity: What determines the baseline beside the backend and this code: checkpoint, recordings,
            trials and protocol, in JSON-representable values.
        known: A measurement of the baseline's mask, should there be one.

    Raises:
        UserError: as :meth:`speakerquant.measuring.pipeline.MeasurementPipeline.measure`.
    """

    def make(folder: Path) -> None:
        measured = known or _measure(pipeline, units)
        folder.mkdir()
        (folder / _SIZE).write_text(json.dumps(measured.size_bytes), encoding="utf-8")
        np.save(folder / _SCORES, measured.scores)
        np.save(folder / _EMBEDDINGS, measured.embedded.embeddings)
        if measured.cohort is not None:
            np.save(folder / _COHORT, measured.cohort)

    backend = pipeline.building.identity
    key = digest(
        schema_versions.BASELINE, schema_versions.GRAPH, schema_versions.EMBEDDINGS, identity, backend
    )

    def read(folder: Path) -> Baseline:
        return Baseline(
            # From build to build the size of an engine differs by some hundred bytes.
            known.size_bytes if known else json.loads((folder / _SIZE).read_text(encoding="utf-8")),
            np.load(folder / _SCORES, allow_pickle=False),
            np.load(folder / _EMBEDDINGS, allow_pickle=False),
            np.load(cohort, allow_pickle=False) if (cohort := folder / _COHORT).exists() else None,
        )

    return pipeline.cache.read("baselines", key, make, read)


def _measure(pipeline: MeasurementPipeline, units: Units) -> Measurement:
    with tempfile.TemporaryDirectory() as folder:
        return pipeline.measure(baseline_mask(units), Path(folder))
