"""Masks that were never built, predicted from those that were."""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from speakerquant.corpus.trials import Trials
from speakerquant.forecasting import predicted_rates
from speakerquant.forecasting.additive_model import AdditiveModel
from speakerquant.forecasting.additive_number import Ranks
from speakerquant.forecasting.forecast import Forecast, MeasuredMask
from speakerquant.forecasting.predicted_rates import PredictedRates
from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.scores import cosine_scores

UNITS, SPEAKERS, RECORDINGS, DIM = 4, 24, 6, 32
EVERY = list(itertools.product(range(3), repeat=UNITS))
FIRST = [ranks for ranks in EVERY if sum(map(bool, ranks)) < 2 and 1 not in ranks] + [
    (1,) * UNITS,
    (2,) * UNITS,
]
OTHERS = [ranks for ranks in EVERY if ranks not in FIRST]


@dataclass(frozen=True)
class World:
    """Embeddings that units change almost independently of each other, pairs a little together."""

    trials: Trials
    embeddings: dict[Ranks, npt.NDArray[np.float32]]

    def measured(self, masks: list[Ranks]) -> dict[Ranks, MeasuredMask]:
        return {ranks: MeasuredMask(size(ranks), self.eer(ranks), self.embeddings[ranks]) for ranks in masks}

    def eer(self, ranks: Ranks) -> float:
        trials = self.trials
        return eer(cosine_scores(self.embeddings[ranks], trials.left, trials.right), trials.labels)


def size(ranks: Ranks) -> int:
    return 1000 - sum(100 * (unit + 1) * rank // 2 for unit, rank in enumerate(ranks))


@pytest.fixture(scope="module")
def world() -> World:
    generator = np.random.default_rng(0)
    num = SPEAKERS * RECORDINGS
    speakers = np.repeat(np.arange(SPEAKERS), RECORDINGS)
    base = generator.standard_normal((SPEAKERS, DIM))[speakers] + 0.6 * generator.standard_normal((num, DIM))
    alone = {
        (unit, rank): 0.2 * rank * generator.standard_normal((num, DIM))
        for unit in range(UNITS)
        for rank in (1, 2)
    }
    pairs = {
        (first, second): 0.3 * alone[first] * alone[second]
        for first, second in itertools.combinations(alone, 2)
        if first[0] != second[0]
    }

    def embeddings(ranks: Ranks) -> npt.NDArray[np.float32]:
        steps = [(unit, rank) for unit, rank in enumerate(ranks) if rank]
        together = (pairs[pair] for pair in itertools.combinations(steps, 2))
        changes = [*(alone[step] for step in steps), *together]
        return (base + sum(changes)).astype(np.float32)

    left, right = np.triu_indices(num, 1)
    trials = Trials(
        tuple(map(str, range(num))),
        left.astype(np.int32),
        right.astype(np.int32),
        speakers[left] == speakers[right],
    )
    return World(trials, {ranks: embeddings(ranks) for ranks in EVERY})


@pytest.mark.parametrize("room", [2**29, 2**16])
def test_rates_are_those_of_scoring_the_whole_list(
    world: World, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicted_rates, "_MOST_BYTES", room)
    vectors = np.stack([world.embeddings[ranks] for ranks in FIRST])
    coefficients = np.eye(len(FIRST))
    rates = PredictedRates(vectors, world.trials.left, world.trials.right, world.trials.labels)
    assert rates.eers(coefficients) == pytest.approx([world.eer(ranks) for ranks in FIRST])
    assert rates._nearest.products.nbytes <= 1.01 * room


@pytest.mark.parametrize("room", [2**29, 2**20, 0])
def test_an_embedding_far_from_the_first_is_scored_on_the_whole_list(
    world: World, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicted_rates, "_MOST_BYTES", room)
    noise = np.random.default_rng(1).standard_normal((len(world.trials.recordings), DIM))
    vectors = np.stack([world.embeddings[FIRST[0]], noise]).astype(np.float32)
    rates = PredictedRates(vectors, world.trials.left, world.trials.right, world.trials.labels)
    trials = world.trials
    found = rates.eers(np.array([[0.0, 1.0]]))
    assert found == pytest.approx(
        eer(cosine_scores(noise, trials.left, trials.right), trials.labels), abs=1e-6
    )


def test_masks_that_were_measured_make_up_for_what_pairs_of_units_do_together(world: World) -> None:
    def off(measured: list[Ranks]) -> tuple[float, float]:
        """Root mean square error of embeddings, and what the model says of it."""
        known = {ranks: world.embeddings[ranks] for ranks in measured}
        model = AdditiveModel(world.embeddings[FIRST[0]], known)
        unknown = np.array(OTHERS[1::2])
        predicted = np.tensordot(model.coefficients(unknown), model.vectors, 1)
        truth = np.stack([world.embeddings[tuple(ranks)] for ranks in unknown.tolist()])
        said = model.deviations(unknown)
        error = np.square(predicted - truth).sum(axis=2).mean()
        return float(np.sqrt(error)), float(np.sqrt(np.square(said).mean()))

    (few, few_said), (many, many_said) = off(FIRST[1:]), off(FIRST[1:] + OTHERS[::2])
    assert many < 0.5 * few
    assert many_said < few_said
    assert 0.5 < few_said / few < 2


def test_predictions_are_off_by_less_than_they_say(world: World) -> None:
    forecast = Forecast(world.measured(FIRST + OTHERS[::8]), world.trials)
    unknown = [ranks for ranks in OTHERS if ranks not in OTHERS[::8]]
    predicted = forecast.predict(np.array(unknown))
    assert predicted.sizes == pytest.approx([size(ranks) for ranks in unknown])
    errors = np.abs(predicted.eers - [world.eer(ranks) for ranks in unknown])
    assert (errors <= predicted.errors).mean() >= 0.95
    truth = np.array([world.eer(ranks) for ranks in unknown])
    assert np.corrcoef(predicted.eers, truth)[0, 1] > 0.95
    assert errors.mean() < 0.25 * truth.std() or errors.mean() < 0.1


def test_what_was_measured_is_known(world: World) -> None:
    forecast = Forecast(world.measured(FIRST), world.trials)
    alone = [ranks for ranks in FIRST if sum(map(bool, ranks)) < 2]
    predicted = forecast.predict(np.array(alone))
    assert predicted.eers == pytest.approx([world.eer(ranks) for ranks in alone])
    assert (predicted.errors == 0).all()


def test_a_unit_that_changes_nothing_is_no_obstacle(world: World) -> None:
    measured = world.measured(FIRST)
    base, idle = measured[FIRST[0]], next(ranks for ranks in FIRST if ranks[0] and not any(ranks[1:]))
    measured[idle] = MeasuredMask(size(idle), base.eer, base.embeddings)
    predicted = Forecast(measured, world.trials).predict(np.array([idle, FIRST[1]]))
    assert predicted.eers == pytest.approx([base.eer, measured[FIRST[1]].eer])
