"""Turns composed configurations into objects of their schemas, and into flat mappings."""

import difflib
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from speakerquant.errors import UserError

T = TypeVar("T")


def typed(config: DictConfig, schema: type[T]) -> T:
    """The composed configuration as an object of its schema.

    Raises:
        UserError: a key that has no default was not given, one was added to a group that has none such, or
            the configuration does not build on the schema.
    """
    if OmegaConf.get_type(config) is not schema:
        name = schema.__name__.removesuffix("Config").lower()
        raise UserError(f"--config-name: not a configuration of this command; begin its defaults with {name}")
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"{missing[0]}: not set and without a default; set it on the command line")
    result = OmegaConf.to_object(config)
    assert isinstance(result, schema)
    _check_settings(config, config._get_full_key(None) or "")
    return result


def unknown_setting(key: str, names: Iterable[str]) -> str:
    """What is said of a key that is not among the names of its group: the nearest of these, or else all."""
    group, _, name = key.rpartition(".")
    known = list(names)
    if near := difflib.get_close_matches(name, known, n=1):
        return f"{key}: unknown setting; did you mean {'.'.join(filter(None, (group, *near)))}?"
    return f"{key}: unknown setting; {group or 'the configuration'} has {', '.join(known)}"


def _check_settings(node: Any, name: str) -> None:
    """Refuse what Hydra's ``+`` has added to a group: nothing reads it. Beside groups interpolations may."""
    if not isinstance(node, DictConfig) or node._is_none():
        return
    schema = OmegaConf.get_type(node)
    known = [each.name for each in fields(schema)] if name and is_dataclass(schema) else None
    for key in node:
        full_key = f"{name}.{key!s}" if name else str(key)
        if known is not None and key not in known:
            raise UserError(unknown_setting(full_key, known))
        _check_settings(node._get_node(key), full_key)


def flat(config: Any) -> dict[str, Any]:
    """Every leaf of a configuration, or of a plain mapping, by its dotted name, as a command line has it."""
    leaves: dict[str, Any] = {}
    is_config = OmegaConf.is_config(config)
    node = OmegaConf.to_container(config, resolve=True, enum_to_str=True) if is_config else config
    _collect(node, "", leaves)
    return leaves


def _collect(node: Any, prefix: str, leaves: dict[str, Any]) -> None:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            _collect(value, f"{prefix}.{key}" if prefix else str(key), leaves)
    else:
        leaves[prefix] = node
