"""CAM++ against the released network, and its graph against itself at every length."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import exported_network, write_model
from omegaconf import OmegaConf

from speakerquant.architectures.campplus.config import CamPlusPlusConfig
from speakerquant.architectures.campplus.network import CamPlusPlus
from speakerquant.architectures.checkpoints import load_checkpoint
from speakerquant.architectures.package_files import KIND, PackageFile
from speakerquant.cache import Cache
from speakerquant.engine.backends import engine_builder
from speakerquant.errors import UserError
from speakerquant.measuring.check import fidelity
from speakerquant.measuring.embedding import embed_with_network

UNITS = ("head", "tdnn", "block1", "transit1", "block2", "transit2", "block3", "transit3", "dense")
CONFIGURATION = Path(__file__).parents[2] / "conf" / "model" / "campplus.yaml"
# The first values that the wheel's own copy of the network, a TorchScript file, gives before its ReLU.
RELEASED = [-0.90211, 0.07517, 0.52023, -1.13073, -0.52651, 0.82704, -0.9871, 0.29942]


@pytest.fixture(scope="module")
def network() -> CamPlusPlus:
    torch.manual_seed(0)
    small = CamPlusPlusConfig(
        n_mels=16, head_channels=4, channels=8, growth=4, bottleneck_channels=8, num_layers=[2, 1, 1]
    )
    return CamPlusPlus(small).eval()


def test_units_are_its_parts_in_the_order_in_which_they_run(network: CamPlusPlus) -> None:
    assert tuple(network.units()) == UNITS


def test_parameters_are_those_of_the_released_network() -> None:
    network = CamPlusPlus(CamPlusPlusConfig())
    assert sum(parameter.numel() for parameter in network.parameters()) == 6_848_544


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_the_graph_is_right_where_segments_end(network: CamPlusPlus, name: str, tmp_path: Path) -> None:
    """A segment is 100 frames of the blocks, of which each is two of the features."""
    write_model(network, tmp_path / "model.onnx")
    generator = np.random.default_rng(0)
    with engine_builder(name).build(tmp_path / "model.onnx") as engine:
        for frames in (network.min_frames, 99, 100, 101, 198, 199, 200, 201, 202, 399, 400, 401, 450):
            recording = generator.standard_normal((network.n_mels, frames)).astype(np.float32)
            embedding = engine.embed(recording[np.newaxis])
            assert fidelity(embedding, embed_with_network(network, [recording])) >= 0.99999, frames


def test_a_layer_adds_few_nodes_to_the_graph(network: CamPlusPlus, tmp_path: Path) -> None:
    """Segments are found once, and each layer gathers its gates once."""
    num_layers = sum(network.config.num_layers)
    counts = Counter(node.op_type for node in exported_network(network).graph.node)
    assert counts["AveragePool"] == num_layers + 1
    assert counts["Gather"] <= num_layers + 2
    assert counts["Range"] == 1 and not counts["Expand"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_mels": 81}, "n_mels=81: must be a multiple of 8"),
        ({"growth": 0}, "growth=0: must be at least 1"),
        ({"bottleneck_channels": 1}, "bottleneck_channels=1: must be at least 2"),
        ({"num_layers": [12, 24]}, "give one for each of the three blocks"),
        ({"dilations": [1, 2, 0]}, "give one for each of the three blocks"),
        ({"variance_floor": 0.0}, "variance_floor=0.0: must be above 0"),
    ],
)
def test_settings_without_a_network_are_named(settings: dict, said: str) -> None:
    with pytest.raises(UserError, match=r"model\.architecture") as caught:
        CamPlusPlusConfig(**settings)
    assert said in str(caught.value)


def test_the_released_network_is_the_one_that_the_configuration_names() -> None:
    settings = OmegaConf.load(CONFIGURATION)
    file = PackageFile.parse(settings.checkpoint)
    assert file.sha256
    path = Cache().find(KIND, file.key, Path.absolute)
    if path is None:
        pytest.skip(
            "the released weights are not in the cache; speakerquant model=campplus brings them there"
        )
    model = load_checkpoint(path, family=settings.family)
    assert model.network.config == CamPlusPlusConfig()
    features = np.random.default_rng(0).standard_normal((1, 80, 230)).astype(np.float32)
    with torch.inference_mode():
        embedding = model.network(torch.from_numpy(features))[0, : len(RELEASED)]
    torch.testing.assert_close(embedding, torch.tensor(RELEASED), rtol=0, atol=5e-5)
