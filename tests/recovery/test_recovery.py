"""Masks trained to give the embeddings of the FP32 network again."""

import copy
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import cached_features, speechlike
from torch.nn.functional import cosine_similarity
from toy_network import TOY, ToyConfig
from varied_network import VARIED, VariedConfig

from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.audio.features import CachedFeatures, Features
from speakerquant.audio.front_end import FrontEnd
from speakerquant.cache import Cache
from speakerquant.errors import UserError
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.prepared import PreparedModel
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding
from speakerquant.recovery.distillation import read_outcome
from speakerquant.recovery.recovery import Recovery
from speakerquant.recovery.settings import RecoverySettings


def prepared_model(network: SpeakerNetwork, table: CalibrationTable) -> PreparedModel:
    return PreparedModel(SpeakerModel(network, FrontEnd(), "network"), table, Rounding(), "nearest", 7)


def masked(prepared: PreparedModel, precisions: dict[str, str]) -> Mask:
    return Mask(prepared.model.network.units(), precisions)


@pytest.mark.parametrize(
    ("precisions", "share"),
    [
        ({"*": "int2"}, 0.6),
        ({"*": "int8"}, 0.9),
        ({"*": "int2_channel", "head": "int8", "embedding": "fp32"}, 0.6),
    ],
    ids=["int2", "int8", "mixed"],
)
def test_a_mask_comes_nearer_to_fp32_on_speech_it_has_not_seen(
    precisions: dict[str, str], share: float, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = VARIED.build(VariedConfig()).eval()
    recordings, others = ([each[:16] for each in speechlike(30, seed)] for seed in (0, 1))
    prepared = prepared_model(network, calibrate(network, map(torch.from_numpy, recordings), "max"))
    mask, own = masked(prepared, precisions), copy.deepcopy(network.state_dict())
    speech = cached_features(recordings, tmp_path / "features")
    recovery = Recovery(RecoverySettings(steps=25, batch_size=4), lambda: speech, Cache(tmp_path / "cache"))
    recovered = recovery.recovered(prepared, mask)
    wanted, before, after = (
        torch.from_numpy(embed_with_network(each, others))
        for each in (network, prepared.simulate(mask), recovered.simulate(mask))
    )
    lost, lost_still = (float((1 - cosine_similarity(each, wanted)).mean()) for each in (before, after))
    assert lost_still < share * lost
    assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())


class Toys:
    """Recoveries of a toy network in 2 bits on a few recordings, each with a cache of its own.

    Args:
        folder: For caches and features.
    """

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        network = TOY.build(ToyConfig()).eval()
        recordings = [each[:8] for each in speechlike(12, seed=0)]
        table = calibrate(network, map(torch.from_numpy, recordings), "max")
        self._folder = folder
        self._speech = cached_features(recordings, folder / "features")
        self.prepared = prepared_model(network, table)

    def recovered(self, cache: str, features: Features | None = None, **settings: Any) -> PreparedModel:
        speech = replace(self._speech, features=features or self._speech.features)
        recovery = Recovery(RecoverySettings(**settings), lambda: speech, Cache(self._folder / cache))
        return recovery.recovered(self.prepared, masked(self.prepared, {"*": "int2"}))

    def entry(self, cache: str) -> Path:
        """The file that the cache keeps."""
        [path] = (self._folder / cache / "recovered_weights").glob("[!.]*")
        return path

    def deadly(self, reads: int) -> Features:
        return Deadly(self._folder / "features", reads)


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    return Toys(tmp_path)


class Deadly(Features):
    """Features of which too many reads kill the process."""

    def __init__(self, folder: Path, reads: int) -> None:
        super().__init__(folder)
        self._reads = reads

    def __getitem__(self, index: Any) -> Any:
        self._reads -= 1
        if self._reads < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_one_that_is_killed_comes_to_what_an_undisturbed_one_does(toys: Toys) -> None:
    settings = {"steps": 80, "batch_size": 2}
    undisturbed = toys.recovered("undisturbed", **settings)
    for steps in (10, 35, 40):  # before there is a state, and after the first and the second
        child = os.fork()
        if child == 0:
            toys.recovered("killed", toys.deadly(1 + 2 * steps), **settings)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    killed = toys.recovered("killed", **settings)
    one, other = (each.model.network.state_dict() for each in (undisturbed, killed))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert toys.entry("undisturbed").name == toys.entry("killed").name


def test_a_mask_without_integers_is_left_as_it_is(toys: Toys) -> None:
    def no_speech() -> CachedFeatures:
        raise AssertionError("there is nothing to train")

    recovery = Recovery(RecoverySettings(steps=5), no_speech, Cache())
    for precisions in ({}, {"*": "fp16"}):
        assert recovery.recovered(toys.prepared, masked(toys.prepared, precisions)) is toys.prepared


def test_what_is_recovered_is_kept_for_the_same_settings(toys: Toys) -> None:
    toys.recovered("cache", steps=1)
    made = toys.entry("cache").stat().st_ino
    toys.recovered("cache", steps=1)
    assert toys.entry("cache").stat().st_ino == made
    toys.recovered("cache", steps=2)
    with pytest.raises(ValueError, match="too many values"):
        toys.entry("cache")


def test_what_is_damaged_is_made_anew(toys: Toys, caplog: pytest.LogCaptureFixture) -> None:
    toys.recovered("cache", steps=1)
    entry = toys.entry("cache")
    for content in (b"", b"nonsense", entry.read_bytes()[:500]):
        entry.write_bytes(content)
        caplog.clear()
        toys.recovered("cache", steps=1)
        assert f"{entry} is damaged, and made anew" in caplog.text
        assert read_outcome(entry).learned


def test_the_state_of_another_network_is_not_gone_on_with(toys: Toys, tmp_path: Path) -> None:
    toys.recovered("cache", steps=30)
    entry = toys.entry("cache")
    left_by_a_kill = entry.with_name(f".{entry.name}.killed") / entry.name
    left_by_a_kill.parent.mkdir()
    state = {"outcome": vars(read_outcome(entry)), "learned": {"other.weight": torch.zeros(2)}, "step": 25}
    torch.save(state, left_by_a_kill)
    entry.unlink()
    with pytest.raises(UserError, match=r"not the state of this recovery \(of another network\); delete it"):
        toys.recovered("cache", steps=30)


def test_speech_to_judge_by_is_asked_for(toys: Toys, tmp_path: Path) -> None:
    alone = cached_features([speechlike(1, seed=0)[0][:8]], tmp_path / "alone")
    with pytest.raises(UserError, match=r"recovery: .* there is 1; .* rounding\.root"):
        toys.recovered("cache", alone.features, steps=1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": -1}, r"recovery\.steps=-1"),
        ({"batch_size": 0}, r"recovery\.batch_size=0"),
        ({"learning_rate": 0}, r"recovery\.learning_rate=0"),
        ({"learning_rate": float("nan")}, r"recovery\.learning_rate=nan"),
        ({"seed": -1}, r"recovery\.seed=-1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        RecoverySettings(**settings)


def test_a_training_that_diverges_is_broken_off(toys: Toys) -> None:
    with pytest.raises(UserError, match=r"recovery, step \d+: .* lower recovery\.learning_rate"):
        toys.recovered("cache", steps=5, learning_rate=1e30)
