"""``speakerquant-train`` from a checkpoint: training begins from its weights, at its own error."""

import itertools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speakerquant.architectures.checkpoints import load_checkpoint
from speakerquant.audio.disturbance import mix_at_snr, normalize_peak, random_noise
from speakerquant.audio.features import extract_features
from speakerquant.cache import Cache
from speakerquant.commands import train_network
from speakerquant.corpus.trials import read_trials, write_trials
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.scores import cosine_scores
from speakerquant.tracking.client import connect

pytestmark = pytest.mark.slow

NUM_SPEAKERS, NUM_RECORDINGS = 8, 5
SMALL = ("channels=32", "aggregation_channels=64", "attention_channels=16", "se_channels=16")
QUICK = {
    "batch_size": 24,
    "crop_seconds": 1.0,
    "augmentation.room_probability": 0,
    "augmentation.channel_probability": 0,
    "augmentation.noise_probability": 1e-9,
    "training.learning_rate": 0.005,
    "training.warmup_steps": 5,
    "training.margin": 0.4,
    "training.margin_start_step": 5,
    "training.margin_full_step": 20,
    "training.scale": 15,
    "accelerator": "cpu",
    "precision": "32-true",
}


@dataclass(frozen=True)
class Workshop:
    """A corpus with its trial list, and a checkpoint that was trained on it from random weights."""

    folder: Path
    tracking_uri: str

    @property
    def speech(self) -> Path:
        return self.folder / "speech"

    @property
    def trials(self) -> Path:
        return self.folder / "trials.txt"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "trained.safetensors"

    def train(self, experiment: str, *overrides: str, **settings: object) -> None:
        """Run the command in this process."""
        own = {
            "training_data.root": self.speech,
            "training_data.synthetic_share": 0,
            "validation.root": self.speech,
            "validation.trials": self.trials,
            "tracking.uri": self.tracking_uri,
            "tracking.experiment": experiment,
            "cache.root": self.folder / "cache",
            "hydra.run.dir": self.folder / "hydra",
        }
        values = {**QUICK, **own, **settings}
        arguments = [*overrides, *(f"{name}={value}" for name, value in values.items())]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["speakerquant-train", *arguments])
            train_network.main()

    def train_first(self, experiment: str, **settings: object) -> None:
        """Train the checkpoint from random weights."""
        self.train(
            experiment,
            "model=ecapa_c512",
            *(f"++model.architecture.{setting}" for setting in SMALL),
            "model.front_end.f_max=7000",
            f"output={self.checkpoint}",
            **{"training.num_steps": 50, **settings},
        )

    def validation_eers(self, experiment: str) -> Mapping[int, float]:
        """What MLflow has of the experiment's latest run, by step."""
        tracking = connect(self.tracking_uri, experiment)
        [run, *_] = tracking.client.search_runs([tracking.experiment_id])
        history = tracking.client.get_metric_history(run.info.run_id, "validation_eer")
        return {metric.step: metric.value for metric in history}

    def eer_of(self, checkpoint: Path) -> float:
        """The checkpoint's own error on the trial list, in percent."""
        model = load_checkpoint(checkpoint)
        trials = read_trials(self.trials)
        recordings = [self.speech / name for name in trials.recordings]
        features = extract_features(recordings, model.front_end, Cache(self.folder / "cache")).features
        embeddings = embed_with_network(model.network, features)
        return eer(cosine_scores(embeddings, trials.left, trials.right), trials.labels)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> Workshop:
    folder = tmp_path_factory.mktemp("workshop")
    workshop = Workshop(folder, new_store(folder))
    names = write_speech(workshop.speech)
    pairs = itertools.combinations(names, 2)
    write_trials(workshop.trials, ((Path(a).parent == Path(b).parent, a, b) for a, b in pairs))
    workshop.train_first("from random weights")
    return workshop


def write_speech(root: Path) -> list[str]:
    """Recordings of speakers whose tone comes and goes beside another that changes, in noise."""
    rng = np.random.default_rng(0)
    time = np.arange(24000) / 16000
    names: list[str] = []
    for speaker, number in itertools.product(range(NUM_SPEAKERS), range(NUM_RECORDINGS)):
        own = np.sin(2 * np.pi * 300 * 1.25**speaker * time)
        other = np.sin(2 * np.pi * rng.uniform(300, 1500) * time)
        speaks = np.sin(2 * np.pi * rng.uniform(2, 9) * time + rng.uniform(0, 2 * np.pi)) > -0.5
        speech = np.where(speaks, own, other).astype(np.float32)
        noisy = mix_at_snr(speech, random_noise(rng, len(speech)), rng.uniform(0, 10))
        names.append(f"id{speaker}/{number}.wav")
        (root / names[-1]).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / names[-1], normalize_peak(noisy), 16000)
    return names


def test_training_from_random_weights_starts_near_chance(workshop: Workshop) -> None:
    assert workshop.validation_eers("from random weights")[0] > 30


def test_a_training_that_has_ended_is_no_run_again(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.train_first("again")
    assert "already trained to step 50, nothing left; raise training.num_steps" in capsys.readouterr().out
    tracking = connect(workshop.tracking_uri, "again")
    assert not tracking.client.search_runs([tracking.experiment_id])
    os.utime(workshop.checkpoint, (0, 0))  # as if its writing had failed, and this was an earlier one
    workshop.train_first("again")
    assert workshop.checkpoint.stat().st_mtime > 0
    assert len(tracking.client.search_runs([tracking.experiment_id])) == 1


def test_fine_tuning_starts_at_the_checkpoints_own_error(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    output = workshop.folder / f"{workshop.checkpoint.stem}.v2"
    start = workshop.eer_of(workshop.checkpoint)
    assert start < 25
    workshop.train(
        "fine-tuning",
        "model=shipped",
        f"model.checkpoint={workshop.checkpoint}",
        f"output={output}",
        **{"training.num_steps": 10, "training.learning_rate": 1e-4},
    )
    printed = capsys.readouterr().out
    assert "validation.trials: 8 of its 8 speakers, such as id0, are in training_data.root, too" in printed
    assert "the margin of the loss ends at 0.107 instead of training.margin=0.4" in printed
    eers = workshop.validation_eers("fine-tuning")
    assert list(eers) == [0, 10]
    assert eers[0] == pytest.approx(start, abs=1e-6)
    assert eers[10] < 30
    before, after = load_checkpoint(workshop.checkpoint), load_checkpoint(output)
    assert (after.network.config, after.front_end) == (before.network.config, before.front_end)
    assert after.front_end.f_max == 7000
    weights = before.network.state_dict()
    assert any(not torch.equal(weights[name], weight) for name, weight in after.network.state_dict().items())
    states = {path.name for path in workshop.folder.glob("*.state")}
    assert states == {"trained.state", "trained.v2.state"}, "names nearly alike are trainings of their own"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"training_data.synthetic_share": 1}, "training_data.root is set"),
        ({"validation.root": "null"}, "validation.trials is set: set validation.root too"),
        (
            {"training.learning_rate": 0.5},
            "trained.state: the state of a training with training.learning_rate=",
        ),
        ({"precision": "bf16-mixed"}, "trained.state: the state of a training with precision=32-true"),
        (
            {"augmentation.noise_root": "{folder}/speech"},
            "trained.state: the state of a training with augmentation.noise_root=null; go on with that",
        ),
        ({"validation.trials": "http://127.0.0.1:1/x"}, "http://127.0.0.1:1/x: cannot be downloaded"),
    ],
)
def test_no_setting_is_without_effect(
    settings: Mapping[str, object], said: str, workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {name: str(value).format(folder=workshop.folder) for name, value in settings.items()}
    with pytest.raises(SystemExit) as stop:
        workshop.train_first("refused", **settings)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("link/trained.safetensors", "this is model.checkpoint itself; set another output"),
        ("speech", "a folder; name the file to write, such as {folder}/speech/model.safetensors"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_training(
    output: str, said: str, workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    content = workshop.checkpoint.read_bytes()
    if not (link := workshop.folder / "link").exists():
        link.symlink_to(workshop.folder)
    with pytest.raises(SystemExit) as stop:
        workshop.train(
            "refused",
            "model=shipped",
            f"model.checkpoint={workshop.checkpoint}",
            f"output={workshop.folder / output}",
            **{"training.num_steps": 10},
        )
    assert stop.value.code == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.endswith(said.format(folder=workshop.folder))
    assert workshop.checkpoint.read_bytes() == content
