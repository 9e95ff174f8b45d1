"""Configurations of jobs, each composed once although sweeper and launcher both need it."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, open_dict


class JobLoader(ConfigLoaderImpl):
    """Hands the launcher what the sweeper has composed for a job already, by the command's own loader.

    A launcher that composes in other processes does so anew: what is of host and process differs there.
    """

    def __init__(self, command: ConfigLoader) -> None:
        super().__init__(command.get_search_path())
        self._command = command
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_composed": {}}

    def compose_job(self, master: DictConfig, overrides: Sequence[str], number: int) -> DictConfig:
        """The configuration of the job of that number in a multirun, whose own one is ``master``."""
        config = super().load_sweep_config(master, list(overrides))
        with open_dict(config):
            config.hydra.job.num = config.hydra.job.id = number
        return config

    def place_job(self, config: DictConfig, overrides: Sequence[str], folder: str) -> list[str]:
        """Keep a composed configuration for the launcher; its overrides, those of its folder among them."""
        placed = f"hydra.sweep.subdir={QuotedString(folder, Quote.single).with_quotes()}"
        config.hydra.sweep.subdir = folder
        config.hydra.overrides.hydra.append(placed)
        self._composed[(*overrides, placed)] = config
        return [*overrides, placed]

    def forget_jobs(self) -> None:
        """Drop the configurations that the launcher has not asked for, as it composes in other processes."""
        self._composed.clear()

    def load_configuration(self, *arguments: Any, **named: Any) -> DictConfig:
        return self._command.load_configuration(*arguments, **named)

    def get_group_options(self, *arguments: Any, **named: Any) -> list[str]:
        options: list[str] = self._command.get_group_options(*arguments, **named)
        return options

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        composed = self._composed.pop(tuple(sweep_overrides), None)
        return super().load_sweep_config(master_config, sweep_overrides) if composed is None else composed
