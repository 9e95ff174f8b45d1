"""Masks as a configuration names them: those that a sweep goes over, and those that tab completion offers."""

import pytest
from conftest import Subject
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.configuration.composing import EVERY_MASK, MASK_GROUP
from speakerquant.configuration.mask_options import MaskOptions
from speakerquant.configuration.schema import register_schemas
from speakerquant.quantization.named_masks import named_mask


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


def test_tab_completion_knows_the_blocks_of_the_network_that_comes_with_the_package(small: Subject) -> None:
    units, named = small.network.units(), ECAPA_TDNN.named_masks
    offered = MaskOptions("speakerquant", f"{EVERY_MASK}://").list(MASK_GROUP, None)
    assert {"none", "all", "all_int4", *units, *named} <= {*offered}
    for name in offered:
        named_mask(name, units, named)  # refuses a name that the network does not have
