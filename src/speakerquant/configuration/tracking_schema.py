"""Schemas of what looks at runs, registered with Hydra."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class TrackingConfig:
    uri: str = MISSING
    experiment: str = MISSING


@dataclass
class ReportConfig:
    """``run`` is the id of a multirun or a list of ids; null means the latest."""

    run: Any = None
    output: str = MISSING
    tracking: TrackingConfig = MISSING


@dataclass
class UiConfig:
    port: int = MISSING
    tracking: TrackingConfig = MISSING


@dataclass
class RegisterConfig:
    run: str = MISSING
    name: str = MISSING
    alias: str | None = None
    threshold: float | None = None
    false_accepts: float | None = None
    tracking: TrackingConfig = MISSING


def register_tracking_schemas() -> None:
    """Make the schemas known to Hydra; the files in ``conf/`` build on them."""
    store = ConfigStore.instance()
    store.store("report_schema", ReportConfig)
    store.store("ui_schema", UiConfig)
    store.store("register_schema", RegisterConfig)
