"""Checkpoints: what is written is what is read, and nothing else is."""

import enum
import pickle
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from toy_network import Toy, ToyConfig

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.checkpoint_sources import shipped_checkpoint
from speakerquant.architectures.checkpoints import (
    SpeakerModel,
    load_checkpoint,
    random_model,
    save_checkpoint,
)
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.registry import architecture_of, register
from speakerquant.architectures.resnet.config import ResNetConfig
from speakerquant.architectures.resnet.network import ResNet
from speakerquant.audio.front_end import FrontEnd, FrontEndKind
from speakerquant.cache import Cache
from speakerquant.configuration.opening import open_model
from speakerquant.configuration.schema import ModelConfig
from speakerquant.errors import UserError

SMALL = EcapaTdnnConfig(channels=64)
FRONT_END = FrontEnd(n_mels=80, f_max=7000.0)


def small_model(seed: int) -> SpeakerModel:
    return random_model(architecture_of("ecapa_tdnn"), SMALL, FRONT_END, seed)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small_model(seed=1).network, FRONT_END)
    return path


def test_loaded_network_is_the_saved_one(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint, SMALL)
    original = small_model(seed=1).network
    features = torch.randn(1, 80, 100)
    assert loaded.front_end == FRONT_END
    assert loaded.network.config == SMALL
    assert not loaded.network.training
    cosine = torch.cosine_similarity(loaded.network(features), original(features))
    assert cosine.item() > 0.9999  # stored in FP16


def test_a_chosen_front_end_replaces_that_of_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    chosen = FrontEnd(FrontEndKind.kaldi)
    alone = ModelConfig(checkpoint=str(checkpoint), front_end=chosen)
    # Beside an architecture it is that of random weights, which a checkpoint is not.
    beside = replace(alone, network="ecapa_tdnn", architecture=SMALL)
    cache = Cache(tmp_path / "cache")
    assert open_model(alone, cache).front_end == chosen
    assert open_model(beside, cache).front_end == FRONT_END


def test_statistics_beyond_half_precision_are_kept(tmp_path: Path) -> None:
    network = small_model(seed=1).network
    norm = network.get_submodule("input_norm")
    assert isinstance(norm.running_var, torch.Tensor)
    norm.running_var[:2] = torch.tensor([1e6, 1e-9])
    save_checkpoint(tmp_path / "loud.safetensors", network, FRONT_END)
    loaded = load_checkpoint(tmp_path / "loud.safetensors").network.get_submodule("input_norm")
    torch.testing.assert_close(loaded.running_var, norm.running_var, rtol=0, atol=0)


def test_digest_follows_the_weights(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, small_model(seed=2).network, FRONT_END)
    assert load_checkpoint(checkpoint).digest != load_checkpoint(other).digest
    assert small_model(seed=1).digest != small_model(seed=2).digest


def test_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (trap,)

    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"weights": Bomb()}))
    with pytest.raises(UserError, match="no checkpoint, damaged, or with more in it than tensors"):
        load_checkpoint(path)
    assert not trap.exists()


def test_what_a_checkpoint_holds_beside_its_tensors_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pyannote's do, whose settings are objects of classes that are not here."""
    made: list[object] = []
    module = types.ModuleType("elsewhere")

    class Specifications:
        def __init__(self) -> None:
            self.classes = ["a", "b"]

        def __setstate__(self, state: object) -> None:
            made.append(self)

    class Problem(enum.Enum):
        representation = 0

    for each in (Specifications, Problem):
        each.__module__, each.__qualname__ = "elsewhere", each.__name__
        setattr(module, each.__name__, each)
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    network = ResNet(ResNetConfig(n_mels=16, channels=4, num_blocks=[1, 1, 1, 1], embedding_dim=4))
    names = {"input_conv": "conv1", "input_norm": "bn1", "embedding_linear": "seg_1", ".norm": ".bn"}
    names |= {"stage": "layer", ".shortcut_conv": ".shortcut.0", ".shortcut_norm": ".shortcut.1"}
    weights = {}
    for name, value in network.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        weights[f"resnet.{name}"] = value
    settings = {"specifications": Specifications(), "problem": Problem.representation}
    torch.save({"state_dict": weights, "pyannote.audio": settings}, tmp_path / "pytorch_model.bin")
    for path in ("known", "unknown"):
        if path == "unknown":
            monkeypatch.delitem(sys.modules, "elsewhere")
        loaded = load_checkpoint(tmp_path / "pytorch_model.bin").network
        assert all(map(torch.equal, loaded.parameters(), network.parameters()))
    assert not made


def test_a_torchscript_program_is_named_and_not_run(tmp_path: Path) -> None:
    program = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    program.save(str(tmp_path / "traced.pt"))
    with pytest.raises(UserError, match="a TorchScript program, not weights"):
        load_checkpoint(tmp_path / "traced.pt")


def test_functions_that_a_checkpoint_names_are_not_called(checkpoint: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Bomb:
        def __reduce__(self):
            return open, (str(trap), "w")

    torch.save({"state_dict": load_file(checkpoint), "bomb": Bomb()}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="known family"):  # the weights are read, and are not of a family
        load_checkpoint(tmp_path / "model.pt")
    assert not trap.exists()


def _rewritten(checkpoint: Path, change) -> Path:
    weights = load_file(checkpoint)
    with safe_open(checkpoint, framework="pt") as file:
        metadata = dict(file.metadata())
    change(weights, metadata)
    save_file(weights, checkpoint, metadata=metadata)
    return checkpoint


def test_checkpoints_of_the_time_when_there_was_one_network_are_loaded(checkpoint: Path) -> None:
    digest = load_checkpoint(checkpoint).digest
    loaded = load_checkpoint(_rewritten(checkpoint, lambda w, m: m.pop("network")), SMALL)
    assert loaded.network.config == SMALL
    assert loaded.digest != digest  # the file did change


def test_any_architecture_is_saved_and_loaded(toy: Architecture, checkpoint: Path, tmp_path: Path) -> None:
    front_end = FrontEnd(n_mels=8)
    original = random_model(architecture_of("toy"), ToyConfig(), front_end, seed=1)
    save_checkpoint(tmp_path / "toy.safetensors", original.network, front_end)
    loaded = load_checkpoint(tmp_path / "toy.safetensors", ToyConfig())
    assert isinstance(loaded.network, Toy)
    assert loaded.front_end == front_end
    assert tuple(loaded.network.units()) == ("frames", "embedding")
    features = torch.randn(1, 8, 50)
    torch.testing.assert_close(loaded.network(features), original.network(features), rtol=1e-2, atol=1e-3)
    with pytest.raises(UserError, match=r"checkpoint has embedding_dim 4, the model config 5"):
        load_checkpoint(tmp_path / "toy.safetensors", ToyConfig(embedding_dim=5))
    with pytest.raises(
        UserError, match=r"checkpoint is of a EcapaTdnnConfig, the model config of a ToyConfig"
    ):
        load_checkpoint(checkpoint, ToyConfig())


def test_an_unregistered_architecture_is_named_with_those_there_are() -> None:
    with pytest.raises(
        UserError, match=r"unknown network 'toy'; valid are ecapa_tdnn, campplus, resnet, onnx$"
    ):
        architecture_of("toy")
    with pytest.raises(ValueError, match="registered already"):
        register(Architecture("ecapa_tdnn", ToyConfig, Toy))


def test_another_width_is_named(checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"checkpoint has channels 64, the model config 1024"):
        load_checkpoint(checkpoint, EcapaTdnnConfig())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w, m: w.pop("input_conv.weight"), "lacks input_conv.weight"),
        (lambda w, m: w.pop("input_norm.running_mean"), "lacks input_norm.running_mean"),
        (lambda w, m: w.update(extra=torch.zeros(1)), "unknown extra"),
        (lambda w, m: w.update({"input_conv.bias": torch.zeros(3)}), "input_conv.bias"),
        (lambda w, m: m.clear(), "known family"),
        (lambda w, m: m.update(network="xvector"), "unknown network 'xvector'; valid are ecapa_tdnn"),
        (lambda w, m: m.update(architecture='{"channels": 64, "colour": 1}'), "colour"),
        (lambda w, m: m.update(architecture='{"channels": 64, "res2net_scale": 0}'), "res2net_scale=0"),
        (lambda w, m: m.update(architecture='{"channels": 64, "se_channels": "x"}'), "do not fit"),
        (lambda w, m: m.update(architecture='{"channels": 64, "se_channels": -1}'), "se_channels=-1"),
        (lambda w, m: m.update(architecture='{"channels": 1099511627776}'), "do not fit"),
        (lambda w, m: m.update(architecture='{"channels": 64, "embedding_dim": null}'), "do not fit"),
    ],
)
def test_incomplete_checkpoint_is_refused(checkpoint: Path, change, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_checkpoint(_rewritten(checkpoint, change))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_missing_or_foreign_file_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)))
    for path in (checkpoint, tmp_path / "noise.bin"):
        with pytest.raises(UserError, match="no checkpoint, damaged, or with more in it than tensors"):
            load_checkpoint(path)
    with pytest.raises(UserError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "missing")


def test_of_a_folder_a_file_of_weights_is_named(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"a folder; give the file of weights in it, such as small\.safetensors"
    ):
        load_checkpoint(tmp_path)
    checkpoint.unlink()
    with pytest.raises(UserError, match=r"a folder; give the file of weights in it$"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", ["tar", "gztar", "zip"])
def test_an_archive_is_to_be_unpacked(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    """As NeMo's are, which end in ``.nemo``."""
    archive = shutil.make_archive(str(tmp_path.with_name(kind)), kind, tmp_path)
    with pytest.raises(UserError, match="an archive, not weights; unpack it and give the file of weights"):
        load_checkpoint(Path(archive))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 9\n", "git lfs pull"),
        ("\n<!DOCTYPE html>\n<html><head>", "a web page, not weights; download the file itself"),
        (
            "model: ResNet34  # größer\n",
            "a text file, not weights; give the file of weights that it belongs to",
        ),
    ],
)
@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_what_a_download_leaves_in_place_of_weights_is_named(
    content: str, said: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        load_checkpoint(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)


def test_shipped_checkpoint_fits_the_package() -> None:
    model = load_checkpoint(shipped_checkpoint())
    assert shipped_checkpoint().stat().st_size <= 16e6
    assert (shipped_checkpoint().parent / "MODEL_CARD.md").is_file()
    assert model.network(torch.randn(1, model.front_end.n_mels, 100)).isfinite().all()
