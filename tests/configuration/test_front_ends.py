"""The front ends that can be chosen for a network that does not say its own."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from speakerquant.architectures.family import FRONT_ENDS, Family
from speakerquant.audio.front_end import FrontEnd
from speakerquant.commands.console_script import config_folder
from speakerquant.deployment.clients import CLIENTS, Client


def option(name: str) -> FrontEnd:
    file = OmegaConf.load(Path(config_folder(), "model", "front_end", f"{name}.yaml"))
    front_end = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(FrontEnd), file))
    assert isinstance(front_end, FrontEnd)
    return front_end


@pytest.mark.parametrize("family", [Family.speechbrain, Family.three_d_speaker, Family.wespeaker])
def test_that_of_a_family_is_the_one_that_its_checkpoints_get(family: Family) -> None:
    assert option(family.value) == FRONT_ENDS[family]


@pytest.mark.parametrize("client", [each for each in CLIENTS.values() if each.front_end_option])
def test_that_of_a_client_is_the_one_that_it_computes(client: Client) -> None:
    front_end = option(client.front_end_option)
    assert client.computed(front_end) == front_end
