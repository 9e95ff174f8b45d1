"""Training on real files: batches follow their number, a resumed run equals an unbroken one."""

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lightning_fabric import Fabric

from speakerquant.architectures.checkpoints import SpeakerModel, random_model
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.registry import architecture_of
from speakerquant.audio.front_end import FrontEnd
from speakerquant.errors import ServiceError, UserError
from speakerquant.training.augmentation import Augmentation
from speakerquant.training.batches import SPEEDS, SpeechSource, TrainingBatches
from speakerquant.training.hyperparameters import AugmentationConfig, TrainingConfig
from speakerquant.training.trainer import Trainer

pytestmark = pytest.mark.slow

SMALL = EcapaTdnnConfig(channels=32, aggregation_channels=64, attention_channels=16, se_channels=16)
FRONT_END = FrontEnd()
CONFIG = TrainingConfig(
    num_steps=6,
    learning_rate=1e-3,
    weight_decay=0.02,
    warmup_steps=2,
    margin=0.2,
    margin_start_step=1,
    margin_full_step=4,
    scale=30.0,
    frequency_mask=5,
    time_mask=5,
    gradient_clip=5.0,
    report_every=1,
    validate_every=3,
    seed=0,
)
SETTINGS = {"training.learning_rate": 1e-3}


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for speaker in range(4):
        folder = tmp_path / "speech" / f"id{speaker}" / "video"
        folder.mkdir(parents=True)
        for name, seconds in (("1.wav", 3.0), ("2.flac", 0.3)):
            pitch = np.sin(2 * np.pi * 100 * (1 + speaker) * np.arange(int(16000 * seconds)) / 16000)
            soundfile.write(folder / name, 0.3 * pitch + 0.01 * rng.standard_normal(len(pitch)), 16000)
    return tmp_path / "speech"


def batches_of(
    speech: Path, batch_size: int = 8, share: float = 0.75, crop_seconds: float = 1.0, **augmentation
) -> TrainingBatches:
    return TrainingBatches(
        [SpeechSource(speech, share), SpeechSource(speech, 1 - share)],
        Augmentation(AugmentationConfig(**augmentation), 16000),
        sample_rate=16000,
        batch_size=batch_size,
        crop_seconds=crop_seconds,
        seed=0,
    )


def test_a_batch_is_a_function_of_its_number(speech: Path) -> None:
    first, second = batches_of(speech), batches_of(speech)
    _ = first[3]
    for number in (0, 7):
        for ours, theirs in zip(first[number], second[number], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(first[0][0], first[1][0])


def test_sources_keep_their_share_and_their_own_labels(speech: Path) -> None:
    batches = batches_of(speech)
    assert batches.num_classes == 2 * 4 * len(SPEEDS)
    for number in range(5):
        waveforms, labels = batches[number]
        assert waveforms.shape == (8, 16000)
        assert np.isfinite(waveforms).all()
        assert (labels < 12).sum() == 6


def test_noise_and_rooms_come_from_folders_when_given(speech: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "noise" / "hum.wav", 0.5 * np.ones(1000), 16000)
    (tmp_path / "rooms").mkdir()
    soundfile.write(tmp_path / "rooms" / "late.wav", np.eye(1, 500, 20)[0] * 0.5, 16000)
    augmentation = Augmentation(
        AugmentationConfig(
            room_probability=1.0,
            channel_probability=0.0,
            noise_probability=1.0,
            min_snr_db=0.0,
            max_snr_db=0.0,
            noise_root=tmp_path / "noise",
            room_root=tmp_path / "rooms",
        ),
        16000,
    )
    speech_wave = np.sin(np.arange(4000) * 0.1).astype(np.float32)
    disturbed = augmentation(speech_wave, np.random.default_rng(0))
    # A room of one late impulse changes nothing once its direct sound is in place; the hum lifts the mean.
    expected = speech_wave + np.sqrt(np.mean(speech_wave**2))
    np.testing.assert_allclose(disturbed, 0.9 * expected / np.abs(expected).max(), atol=1e-3)


def test_a_folder_of_noise_is_known_wherever_it_lies(speech: Path, tmp_path: Path) -> None:
    def described(root: Path) -> object:
        return Augmentation(AugmentationConfig(noise_root=root), 16000).folders

    before = described(speech)
    moved = speech.rename(tmp_path / "moved")
    assert described(moved) == before
    assert described(moved / "id0") != before


def small_model(seed: int) -> SpeakerModel:
    return random_model(architecture_of("ecapa_tdnn"), SMALL, FRONT_END, seed)


def train(
    speech: Path, state: Path, steps: int, config: TrainingConfig = CONFIG, **augmentation: float
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Train, resuming from ``state`` if it is there, until interrupted after ``steps``."""
    model = small_model(seed=0)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    trainer = Trainer(fabric, model, batches_of(speech, **augmentation), config, SETTINGS)
    if state.exists():
        trainer.load(state)
    losses: list[float] = []

    def report(step: int, metrics) -> None:
        losses.extend([metrics["loss"]] if "loss" in metrics else [])
        if step > steps:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        trainer.fit(state, report, lambda _: {"validation_eer": 50.0})
    return model.network.state_dict(), losses


def test_resumed_training_equals_unbroken_training(speech: Path, tmp_path: Path) -> None:
    unbroken, losses = train(speech, tmp_path / "unbroken.state", steps=6)
    train(speech, tmp_path / "broken.state", steps=4)
    resumed, later_losses = train(speech.rename(tmp_path / "moved"), tmp_path / "broken.state", steps=6)
    assert later_losses == losses[3:]
    for name, weight in unbroken.items():
        assert torch.equal(weight, resumed[name]), name


def test_only_a_training_from_its_beginning_validates_before_its_first_step(
    speech: Path, tmp_path: Path
) -> None:
    state = tmp_path / "a.state"
    assert validated_steps(speech, state, num_steps=3) == [0, 3]
    assert validated_steps(speech, state, num_steps=6) == [6]


def validated_steps(speech: Path, state: Path, num_steps: int) -> list[int]:
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    config = replace(CONFIG, num_steps=num_steps)
    trainer = Trainer(fabric, small_model(seed=0), batches_of(speech), config, SETTINGS)
    if state.exists():
        trainer.load(state)
    steps: list[int] = []

    def report(step: int, metrics) -> None:
        steps.extend([step] if "validation_eer" in metrics else [])

    trainer.fit(state, report, lambda _: {"validation_eer": 50.0})
    return steps


def test_a_state_that_began_from_other_weights_is_refused(speech: Path, tmp_path: Path) -> None:
    train(speech, tmp_path / "a.state", steps=3, config=replace(CONFIG, num_steps=3))
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    other = Trainer(fabric, small_model(seed=1), batches_of(speech), CONFIG, SETTINGS)
    with pytest.raises(UserError, match=r"a\.state: .*began from other weights"):
        other.load(tmp_path / "a.state")


@pytest.mark.parametrize(
    ("settings", "num_steps", "speaker", "said"),
    [
        (
            {"training.learning_rate": 1e-4},
            6,
            "id3",
            r"a training with training\.learning_rate=0\.001; go on with that",
        ),
        (SETTINGS, 3, "id3", r"a training after 4 steps; raise training\.num_steps"),
        (SETTINGS, 6, "id4", r"a training on other speakers or recordings; give those"),
    ],
)
def test_a_state_of_another_training_is_refused(
    settings: dict[str, object], num_steps: int, speaker: str, said: str, speech: Path, tmp_path: Path
) -> None:
    train(speech, tmp_path / "a.state", steps=4, config=replace(CONFIG, num_steps=4))
    fabric, config = (
        Fabric(accelerator="cpu", devices=1, precision="32-true"),
        replace(CONFIG, num_steps=num_steps),
    )
    (speech / "id3").rename(speech / speaker)
    other = Trainer(fabric, small_model(seed=0), batches_of(speech), config, settings)
    with pytest.raises(UserError, match=rf"a\.state: the state of {said}"):
        other.load(tmp_path / "a.state")


def test_a_state_of_other_speakers_is_refused(speech: Path, tmp_path: Path) -> None:
    train(speech, tmp_path / "a.state", steps=3)
    shutil.rmtree(speech / "id3")
    with pytest.raises(
        UserError, match=r"a\.state: the state of a training on 8 speakers, and now there are 6"
    ):
        train(speech, tmp_path / "a.state", steps=6)


def test_a_step_is_reported_with_the_learning_rate_that_it_was_taken_with(
    speech: Path, tmp_path: Path
) -> None:
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    trainer = Trainer(fabric, small_model(seed=0), batches_of(speech), CONFIG, SETTINGS)
    rates: list[float] = []

    def report(step: int, metrics) -> None:
        rates.extend([metrics["learning_rate"]] if "learning_rate" in metrics else [])

    trainer.fit(tmp_path / "a.state", report, lambda _: {"validation_eer": 50.0})
    falling = [0.5 * (1 + np.cos(np.pi * step / 4)) for step in range(4)]
    np.testing.assert_allclose(rates, 1e-3 * np.array([0.5, 1.0, *falling]))


def test_training_learns(speech: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, num_steps=25, margin=0.0, learning_rate=3e-3, validate_every=25)
    undisturbed = {f"{what}_probability": 0.0 for what in ("room", "channel", "noise")}
    _, losses = train(speech, tmp_path / "state", steps=25, config=config, **undisturbed)
    assert len(losses) == 25
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_a_folder_of_one_speaker_is_the_wrong_folder(speech: Path) -> None:
    with pytest.raises(
        UserError, match=r"seem to be of one speaker, speech; name the folder that has a subfolder"
    ):
        batches_of(speech.parent)


def test_a_silent_room_is_named(speech: Path, tmp_path: Path) -> None:
    (tmp_path / "rooms").mkdir()
    soundfile.write(tmp_path / "rooms" / "silent.wav", np.zeros(100), 16000)
    with pytest.raises(UserError, match=r"silent\.wav: silent throughout, and no impulse response"):
        _ = batches_of(speech, room_probability=1.0, room_root=tmp_path / "rooms")[0]


def test_a_damaged_recording_is_named(speech: Path, tmp_path: Path) -> None:
    for path in speech.rglob("1.wav"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"1\.wav: truncated") as caught:
        train(speech, tmp_path / "state", steps=6)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"validate_every": 0}, "validate_every"),
        ({"margin_full_step": 1}, "margin_full_step"),
        ({"learning_rate": -1.0}, r"training\.learning_rate=-1\.0: give a number above 0"),
        ({"learning_rate": np.nan}, "learning_rate"),
        ({"weight_decay": -1.0}, r"training\.weight_decay=-1\.0: give 0 or more"),
        ({"margin": np.nan}, "margin"),
        ({"frequency_mask": -5}, r"training\.frequency_mask=-5: give 0 or more"),
        ({"time_mask": -1}, "time_mask"),
        ({"warmup_steps": 6}, r"training\.warmup_steps=6: must be fewer than training\.num_steps=6"),
        ({"gradient_clip": -1.0}, "gradient_clip"),
        ({"seed": -1}, r"training\.seed=-1: give 0 or more"),
        ({"seed": 2**64}, "seed"),
    ],
)
def test_impossible_settings_are_named(change: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        replace(CONFIG, **change)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 1}, "batch_size=1: give at least 2"),
        ({"share": 0.99}, r"batch_size=8: has no place for a share of 0\.01, which .*synthetic_share"),
        ({"share": 0.01}, r"batch_size=8: has no place for a share of 0\.01, which .*synthetic_share"),
        (
            {"min_snr_db": 30.0},
            r"augmentation\.min_snr_db=30: must not lie above augmentation\.max_snr_db=25",
        ),
        ({"max_snr_db": np.inf}, r"augmentation\.max_snr_db=inf: give a number of decibels"),
        ({"room_probability": 40}, r"augmentation\.room_probability=40: must lie between 0 and 1"),
        ({"noise_probability": -1}, "noise_probability"),
        (
            {"noise_probability": 0, "noise_root": Path("musan")},
            r"noise_root is set, but nothing is read from it; set augmentation\.noise_probability above 0",
        ),
        ({"crop_seconds": np.nan}, "crop_seconds=nan: give a number above 0"),
        ({"crop_seconds": 0.02}, "crop_seconds: 320 samples are 0 frames, and the network needs"),
    ],
)
def test_batches_that_no_network_trains_on_are_refused(
    settings: dict[str, float], said: str, speech: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        train(speech, tmp_path / "state", steps=1, **settings)


def test_a_training_that_diverges_ends_in_a_line(speech: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step \d: the gradient is .*; lower training\.learning_rate"):
        train(speech, tmp_path / "state", steps=6, config=replace(CONFIG, learning_rate=1e30))


def test_what_ends_a_process_that_prepares_batches_is_said(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ServiceError("cannot read a.wav: the server is gone")

    monkeypatch.setattr(Augmentation, "__call__", fail)
    with pytest.raises(UserError, match=r"^cannot read a\.wav: the server is gone$"):
        train(speech, tmp_path / "state", steps=1)


def test_foreign_or_pickled_state_is_refused(speech: Path, tmp_path: Path) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    trainer = Trainer(fabric, small_model(seed=0), batches_of(speech), CONFIG, SETTINGS)
    foreign = tmp_path / "foreign.state"
    torch.save({"step": 1}, foreign)
    trap = tmp_path / "trap"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (trap,)

    pickled = tmp_path / "pickled.state"
    torch.save({"step": Bomb()}, pickled)
    for path in (foreign, pickled):
        with pytest.raises(UserError, match="cannot resume"):
            trainer.load(path)
    assert not trap.exists()
