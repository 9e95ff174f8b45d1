"""What ``speakerquant`` adds to a search that finds the whole front from predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from speakerquant.commands.mask_search_application import MaskSearchApplication
from speakerquant.configuration.conversion import typed
from speakerquant.configuration.opening import open_cache
from speakerquant.configuration.schema import RunConfig, TrialList
from speakerquant.errors import UserError
from speakerquant.forecasting.forecast import MeasuredList
from speakerquant.mask_search.choices import Choices
from speakerquant.mask_search.front_plan import LOSS, SIZE, FrontPlan
from speakerquant.measuring.embedding import kept_embeddings
from speakerquant.report.mask_view import MaskView
from speakerquant.search.goals import Goals
from speakerquant.search.history import History
from speakerquant.search.search_loop import FirstPoints
from speakerquant.search.space import Point, Space
from speakerquant.search.view import Effect
from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.score_norm import ScoreNorm
from speakerquant.statistics.scores import Embeddings


class FrontApplication(MaskSearchApplication):
    """Measures the masks that the front is predicted to have, and no others."""

    def __init__(self) -> None:
        super().__init__()
        self._plan: FrontPlan | None = None

    def first_points(self, config: DictConfig, space: Space, goals: Goals, defaults: Point) -> FirstPoints:
        if {*goals.objectives} != {SIZE, LOSS}:
            raise UserError(
                f"hydra.sweeper.objectives={dict(goals.objectives)}: a front is of {SIZE} and {LOSS}; "
                "leave them as they are, and set budgets with front.size_ratio and the like, bounds on other "
                "numbers with hydra.sweeper.constraints"
            )
        choices = Choices(space, defaults)
        if others := [name for name in space.axes if name not in choices.precisions]:
            raise UserError(f"{others[0]}: a front is of precisions of units only; fix it to one value")
        evaluator = self._evaluator
        assert evaluator is not None
        if (norm := evaluator.protocol.norm) is not ScoreNorm.none:
            raise UserError(f"scoring={norm}: normalised scores cannot be predicted; use scoring=cosine")
        baseline, dim = evaluator.baseline, evaluator.model.network.embedding_dim

        trials = evaluator.data.trials

        def embeddings_of(result: Mapping[str, Any]) -> Embeddings:
            name = str(result.get("embeddings"))
            return kept_embeddings(evaluator.cache, name, len(trials.recordings), dim)

        baseline_eer = eer(baseline.scores, trials.labels)
        measured_on = MeasuredList(trials, baseline_eer, evaluator.numbers_of)
        self._plan = FrontPlan(choices, goals, measured_on, embeddings_of)
        return self._plan

    def view(self, config: DictConfig, goals: Goals) -> MaskView:
        cache = open_cache(typed(config, RunConfig).cache)
        names, published = self._names(config), self._published()
        return MaskView(TrialList.test.name, cache, published, names, self._predictions, self._alone)

    def _object(self, doubt: str) -> None:
        """Refuse: further masks would be built for a bound that shows nothing."""
        raise UserError(doubt)

    def _predictions(self, history: History) -> Mapping[int, Mapping[str, float]]:
        """By number of each trial with several lowered units, what was predicted from the others."""
        try:
            return self._plan.predictions(history) if self._plan else {}
        except UserError:  # which ends the search; what was measured is shown without predictions then
            return {}

    def _alone(self, history: History) -> Sequence[Effect]:
        """The trials with one lowered unit."""
        return self._plan.alone(history) if self._plan else []
