"""A sampler that takes all combinations in their order, which is what Hydra's own tests expect of a sweep."""

import itertools
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial


class InOrderSampler(BaseSampler):
    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        assert isinstance(param_distribution, CategoricalDistribution)
        if trial.number == 0:
            return param_distribution.choices[0]
        axes: dict[str, Any] = study.trials[0].distributions
        points = list(itertools.product(*(axis.choices for axis in axes.values())))
        return points[trial.number % len(points)][list(axes).index(param_name)]
