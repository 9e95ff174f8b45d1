"""Has Hydra compose each configuration of a command once, and what its jobs share once for all of them."""

import copy
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from typing import Any

import hydra._internal.hydra
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import InputDefault, ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

MASK_GROUP = "mask"
EVERY_MASK = "masks"
"""The scheme of the source that holds an option of every name, and so comes behind all others."""

_MOST_JOBS = 1000  # that are remembered, each in 0.15 MB
_MOST_LISTS = 100  # as large


class SharingLoader(ConfigLoaderImpl):
    """Hydra's loader, which merges files once for all jobs that choose the same options of groups.

    Of the sources of options, those that hold every name come behind folders that users give.
    """

    def __init__(self, config_search_path: Any) -> None:
        super().__init__(config_search_path)
        self._lists: dict[Hashable, DefaultsList] = {}
        self._merged: dict[Hashable, DictConfig] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what is remembered: in other processes, what is of host and process differs."""
        return {**self.__dict__, "_lists": {}, "_merged": {}}

    def _process_config_searchpath(
        self, config_name: str | None, parsed_overrides: list[Override], repo: CachingConfigRepository
    ) -> None:
        super()._process_config_searchpath(config_name, parsed_overrides, repo)
        sources = repo.get_sources()
        sources.sort(key=lambda source: (source.provider == "schema", source.scheme() == EVERY_MASK))
        if config_name is None:  # for help, which need not open a network to list what its masks are
            sources[:] = [source for source in sources if source.scheme() != EVERY_MASK]

    def _load_configuration_impl(self, *arguments: Any, **named: Any) -> DictConfig:
        with self._own_lists():
            return super()._load_configuration_impl(*arguments, **named)

    def compute_defaults_list(self, *arguments: Any, **named: Any) -> DefaultsList:
        """What ``--info`` shows."""
        with self._own_lists():
            return super().compute_defaults_list(*arguments, **named)

    @contextmanager
    def _own_lists(self) -> Iterator[None]:
        config_loader_impl.create_defaults_list = self._create_list  # type: ignore[attr-defined]
        try:
            yield
        finally:
            config_loader_impl.create_defaults_list = create_defaults_list  # type: ignore[attr-defined]

    def _create_list(
        self,
        repo: IConfigRepository,
        config_name: str | None,
        overrides_list: list[Override],
        prepend_hydra: bool,
        skip_missing: bool,
    ) -> DefaultsList:
        values: list[Override] = []
        choices: list[Override] = []
        for override in overrides_list:
            if isinstance(override.value(), dict) or not repo.group_exists(override.key_or_group):
                values.append(_of_one_entry(override))
            else:
                choices.append(_of_an_option(override))
        key = config_name, prepend_hydra, skip_missing, *(each.input_line for each in choices)
        if key not in self._lists:
            self._lists[key] = create_defaults_list(repo, config_name, choices, prepend_hydra, skip_missing)
        values = [each for each in values if not each.is_sweep_override()]
        return replace(self._lists[key], config_overrides=values)  # to which values are only handed on

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        files = tuple(map(astuple, defaults))
        if files not in self._merged:
            config = super()._compose_config_from_defaults_list(defaults, repo)
            if len(self._merged) == _MOST_LISTS:
                return config
            self._merged[files] = config
        return copy.deepcopy(self._merged[files])


def _of_an_option(override: Override) -> Override:
    """A choice of what was typed, be it a number; null is none of the group, as in a defaults list."""
    value = override.value()
    if override.is_delete() or override.is_sweep_override() or isinstance(value, str | list):
        return override
    return replace(override, _value=[] if value is None else override.get_value_string())


def _of_one_entry(override: Override) -> Override:
    """A mask's key is one name, dots and all: a part of a module is set beside it, not in its place."""
    group, _, name = override.key_or_group.partition(".")
    if group != MASK_GROUP or not name or override.is_delete():
        return override
    return replace(override, key_or_group=f"{group}[{name}]")


class RememberingLoader(SharingLoader):
    """Hydra's loader, which remembers what it has composed for a command.

    Hydra asks it for the configuration twice: to learn whether the command is a multirun, and to run it; and
    for that of each job of a multirun: to check the jobs, and to launch them.
    """

    def __init__(self, config_search_path: Any) -> None:
        super().__init__(config_search_path)
        self._told_mode: tuple[DictConfig, Sequence[str]] | None = None
        self._is_mistaken = False
        self._jobs: dict[Sequence[str], DictConfig] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_told_mode": None, "_jobs": {}}

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        told, self._told_mode = self._told_mode, None
        if self._is_mistaken:  # which Hydra takes for a single run, and would complain of its sweeps
            self._is_mistaken = validate_sweep_overrides = False
        if validate_sweep_overrides and told and _adds_mode_only(overrides, run_mode, *told):
            self.validate_sweep_overrides_legal(
                OverridesParser.create().parse_overrides(overrides), run_mode, from_shell
            )
            config, known = told
            config.hydra.mode = run_mode
            config.hydra.overrides.hydra.extend(overrides[len(known) :])
            return config
        try:
            config = super().load_configuration(
                config_name, overrides, run_mode, from_shell, validate_sweep_overrides
            )
        except Exception:
            self._is_mistaken = not validate_sweep_overrides
            raise
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
