"""Whether an engine computes what the mask says."""

import numpy as np
import numpy.typing as npt


def fidelity(embeddings: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> float:
    """Smallest cosine between rows ``[N, dim]`` of an engine's embeddings and of the simulation's.

    NaN if any row holds NaN.
    """
    a, b = embeddings.astype(np.float64), reference.astype(np.float64)
    cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(cosines.min())
