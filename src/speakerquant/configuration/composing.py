"""Has Hydra compose each configuration of a command once."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import hydra._internal.hydra
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import InputDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

_MOST_JOBS = 1000  # that are remembered, each in 0.15 MB


class RememberingLoader(ConfigLoaderImpl):
    """Hydra's loader, which remembers what it has composed for a command.

    Hydra asks it for the configuration twice: to learn whether the command is a multirun, and to run it; and
    for that of each job of a multirun: to check the jobs, and to launch them.
    """

    def __init__(self, config_search_path: Any) -> None:
        super().__init__(config_search_path)
        self._told_mode: tuple[DictConfig, Sequence[str]] | None = None
        self._jobs: dict[Sequence[str], DictConfig] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what is remembered: in other processes, what is of host and process differs."""
        return {**self.__dict__, "_told_mode": None, "_jobs": {}}

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        told, self._told_mode = self._told_mode, None
        if validate_sweep_overrides and told and _adds_mode_only(overrides, run_mode, *told):
            self.validate_sweep_overrides_legal(
                OverridesParser.create().parse_overrides(overrides), run_mode, from_shell
            )
            config, known = told
            config.hydra.mode = run_mode
            config.hydra.overrides.hydra.extend(overrides[len(known) :])
            return config
        config = super().load_configuration(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides
        )
        if not validate_sweep_overrides:  # only the mode is asked for
            self._told_mode = config, tuple(overrides)
        return config

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        job = tuple(sweep_overrides)
        if job in self._jobs:
            return self._jobs.pop(job)
        config = super().load_sweep_config(master_config, sweep_overrides)
        if len(self._jobs) < _MOST_JOBS:
            self._jobs[job] = copy.deepcopy(config)  # as it is before it is run
        return config


def _adds_mode_only(
    overrides: Sequence[str], run_mode: RunMode, config: DictConfig, known: Sequence[str]
) -> bool:
    """Whether the overrides are those of a configuration and its mode, as Hydra adds it to them."""
    added = overrides[len(known) :]
    return (
        [*overrides] == [*known, *added]
        and added in ([], [f"hydra.mode={run_mode.name}"])
        and not OmegaConf.missing_keys(config.hydra.runtime.choices)  # which a single run must refuse
    )


_choices: Callable[..., DictConfig] = defaults_list._create_interpolation_map


def _choices_where_asked_for(
    overrides: object, defaults: list[InputDefault], self_added: bool
) -> DictConfig | None:
    """What interpolations in a defaults list may name, which Hydra gathers for lists without them too."""
    if any(default.is_interpolation() for default in defaults):
        return _choices(overrides, defaults, self_added)
    return None


def compose_once() -> None:
    """Have the commands that Hydra runs in this process use what is above."""
    hydra._internal.hydra.ConfigLoaderImpl = RememberingLoader  # type: ignore[attr-defined]
    defaults_list._create_interpolation_map = _choices_where_asked_for  # type: ignore[assignment]
    # Nor need the schemas be copied for each composition and each listed group: what they give is copied.
    ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]
