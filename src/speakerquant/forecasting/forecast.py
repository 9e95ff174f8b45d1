"""Sizes and error rates of masks that were never built, with how far they may be off."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from speakerquant.corpus.trials import Trials
from speakerquant.forecasting.additive_model import AdditiveModel
from speakerquant.forecasting.additive_number import AdditiveNumber, Ranks
from speakerquant.forecasting.predicted_rates import PredictedRates
from speakerquant.statistics.scores import Embeddings
from speakerquant.statistics.uncertainty import CONFIDENCE

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredMask:
    """What a forecast is made from: size in bytes, EER in percent, embeddings ``[num_recordings, dim]``."""

    size_bytes: int
    eer: float
    embeddings: Embeddings


@dataclass(frozen=True)
class Predicted:
    """Predictions of several masks.

    Attributes:
        sizes: Of their engines in bytes, ``[num_masks]``.
        eers: In percent.
        deviations: Standard deviations of what ``eers`` are off, the steps of the list aside.
        errors: By how much 95 of 100 ``eers`` are off at most.
    """

    sizes: Array
    eers: Array
    deviations: Array
    errors: Array


@dataclass(frozen=True)
class MeasuredList:
    """The list that masks are measured on.

    Attributes:
        trials: The list.
        baseline_eer: EER of the baseline in percent.
        numbers_of: Numbers of a result, by these names, that embeddings of the list's recordings give.
    """

    trials: Trials
    baseline_eer: float
    numbers_of: Callable[[Embeddings, Collection[str]], Mapping[str, float]]


class Forecast:
    """Predicts masks from a base mask, masks with one unit lowered, and further ones.

    Sizes add up. Error rates are those of predicted embeddings; how far they are off is told by the measured
    masks with several lowered units, each predicted from the others.

    Args:
        measured: By ranks, the base mask (all 0), each unit lowered alone, and one mask or more with several.
        trials: The list that they were measured on.

    Attributes:
        several: The ranks of the measured masks with several lowered units.
        step: What one target trial makes of an EER, in percent.
    """

    def __init__(self, measured: Mapping[Ranks, MeasuredMask], trials: Trials) -> None:
        base = next(mask for ranks, mask in measured.items() if not any(ranks))
        others = {ranks: mask for ranks, mask in measured.items() if any(ranks)}
        self._sizes = AdditiveNumber(
            base.size_bytes, {ranks: mask.size_bytes for ranks, mask in others.items()}
        )
        self._model = AdditiveModel(
            base.embeddings, {ranks: mask.embeddings for ranks, mask in others.items()}
        )
        several = {ranks: mask for ranks, mask in others.items() if sum(map(bool, ranks)) > 1}
        self.several = list(several)
        self._rates = PredictedRates(self._model.vectors, trials.left, trials.right, trials.labels)
        is_of_several = np.array([ranks in several for ranks in others])
        coefficients, moved = (found[is_of_several] for found in self._model.left_out())
        self._left_out_coefficients = dict(zip(several, coefficients, strict=True))
        self._left_out_eers = self._rates.eers(coefficients)
        self._left_out_moved = moved
        found = np.array([mask.eer for mask in several.values()])
        # However near embeddings are, an EER may be off by the step that one target trial makes.
        self.step = 100 / int(trials.labels.sum())
        beyond = np.square(found - self._left_out_eers) - self.step**2 / 12
        ratios = beyond[moved > 0] / np.square(moved[moved > 0])
        self._off = math.sqrt(max(0.0, ratios.mean())) if len(ratios) else 0.0

    def predict(self, ranks: npt.NDArray[np.int64]) -> Predicted:
        """Predictions of masks ``[num_masks, num_units]``."""
        eers = self._rates.eers(self._model.coefficients(ranks))
        return self._predicted(ranks, eers, self._model.deviations(ranks))

    def left_out(self) -> Predicted:
        """Predictions of the masks in :attr:`several`, each from all measured masks but itself."""
        return self._predicted(np.array(self.several), self._left_out_eers, self._left_out_moved)

    def moved(self, ranks: npt.NDArray[np.int64]) -> Array:
        """How far masks ``[num_masks, num_units]`` move embeddings from the base's, as far as units add up.

        Root mean square over recordings, of independent changes, ``[num_masks]``.
        """
        return np.sqrt(self._model.energies(ranks))

    def embeddings(self, ranks: Ranks) -> Embeddings:
        """Predicted embeddings of a mask, ``[num_recordings, dim]``."""
        return self._rates.embeddings(self._model.coefficients(np.array([ranks]))[0])

    def left_out_embeddings(self, ranks: Ranks) -> Embeddings:
        """The same of one of the masks in :attr:`several`, from all measured masks but itself."""
        return self._rates.embeddings(self._left_out_coefficients[ranks])

    def _predicted(self, ranks: npt.NDArray[np.int64], eers: Array, moved: Array) -> Predicted:
        deviations = self._off * moved
        beyond = float(stdtrit(len(self.several), (1 + CONFIDENCE) / 2))
        errors = np.where(moved > 0, np.hypot(self.step, beyond * deviations), 0)
        return Predicted(self._sizes.of(ranks), eers, deviations, errors)
