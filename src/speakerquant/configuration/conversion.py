"""Turns composed configurations into objects of their schemas, and into flat mappings."""

from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from speakerquant.errors import UserError

T = TypeVar("T")


def typed(config: DictConfig, schema: type[T]) -> T:
    """The composed configuration as an object of its schema.

    Raises:
        UserError: a key that has no default was not given.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"{missing[0]}: not set and without a default; set it on the command line")
    result = OmegaConf.to_object(config)
    assert isinstance(result, schema)
    return result


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
