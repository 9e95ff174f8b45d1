"""Masks that a sweep goes over, as a configuration names them."""

import pytest
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from speakerquant.configuration.schema import register_schemas


def swept(*task: str) -> DictConfig:
    """A configuration whose sweep is over the masks of a network, and what was typed for it."""
    register_schemas()
    hydra = {"overrides": {"task": [*task]}, "sweeper": {"params": {"mask": "${masks:none,*}"}}}
    return OmegaConf.create({"hydra": hydra})


def test_masks_of_several_networks_are_none_but_those_that_are_named() -> None:
    with pytest.raises(InterpolationResolutionError, match=r"model: the masks of this sweep.*mask=none,all"):
        _ = swept("model=shipped,campplus").hydra.sweeper.params.mask
    named = swept("model=shipped,campplus", "mask=none,all")
    assert named.hydra.sweeper.params.mask == "none"  # until Hydra puts the named ones in its place
