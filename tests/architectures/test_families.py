"""Checkpoints of the public families give the embeddings that their own code gives."""

import math
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import soundfile
import torch
import torchaudio
from conftest import Subject, write_model
from lightning_fabric import Fabric
from published import Parameters, campplus, resnet, speechbrain, voxceleb_trainer, wespeaker
from safetensors.torch import save_file
from torch import Tensor, nn
from torchaudio.compliance import kaldi

from speakerquant.architectures.checkpoints import load_checkpoint, save_checkpoint
from speakerquant.architectures.family import AUTO, FRONT_ENDS, Family
from speakerquant.audio.feature_extractor import FeatureExtractor
from speakerquant.audio.waveform import read_waveform
from speakerquant.corpus.recordings import find_recordings
from speakerquant.engine.openvino.openvino_engine import OpenVinoBuilder
from speakerquant.errors import UserError
from speakerquant.measuring.check import fidelity
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.mask import Mask, baseline_mask
from speakerquant.quantization.precision import INT8
from speakerquant.quantization.simulate import simulate
from speakerquant.training.augmentation import Augmentation
from speakerquant.training.batches import SpeechSource, TrainingBatches
from speakerquant.training.hyperparameters import AugmentationConfig, TrainingConfig
from speakerquant.training.trainer import Trainer

pytestmark = pytest.mark.slow

Network = Callable[[Parameters, Tensor], Tensor]

PUBLISHED: dict[str, tuple[Family, Network]] = {
    "speechbrain": (Family.speechbrain, speechbrain),
    "3D-Speaker": (Family.three_d_speaker, partial(speechbrain, aggregation=96)),
    "wespeaker": (Family.wespeaker, partial(wespeaker, global_context=False, embedding_norm=False)),
    "wespeaker, global context": (
        Family.wespeaker,
        partial(wespeaker, global_context=True, embedding_norm=False),
    ),
    "wespeaker, embedding norm": (
        Family.wespeaker,
        partial(wespeaker, global_context=False, embedding_norm=True),
    ),
    "voxceleb_trainer": (Family.voxceleb_trainer, voxceleb_trainer),
    "3D-Speaker, CAM++": (Family.three_d_speaker, campplus),
    "wespeaker, CAM++": (Family.wespeaker, partial(campplus, floor=1e-7)),
    "wespeaker, ResNet": (Family.wespeaker, resnet),
    "wespeaker, bottlenecks": (Family.wespeaker, partial(resnet, bottleneck=True)),
    "wespeaker, two embedding layers": (Family.wespeaker, partial(resnet, two_layers=True)),
    "3D-Speaker, ResNet": (Family.three_d_speaker, partial(resnet, two_layers=True, floor=1e-8)),
    "pyannote": (Family.pyannote, partial(resnet, prefix="resnet.", floor=0.0)),
}
# The first names of a network whose blocks hold several convolutions in place of a second one.
ERES2NET = {
    f"{name}.weight": torch.ones(2, 2)
    for name in ("conv1", "layer1.0.conv1", "layer1.0.convs.0", "layer1.0.conv3", "seg_1")
}
TWO_STEPS = TrainingConfig(
    num_steps=2,
    learning_rate=1e-3,
    weight_decay=0.02,
    warmup_steps=1,
    margin=0.2,
    margin_start_step=0,
    margin_full_step=1,
    scale=30.0,
    frequency_mask=5,
    time_mask=5,
    gradient_clip=5.0,
    report_every=1,
    validate_every=2,
    seed=0,
)


@pytest.fixture(scope="module")
def waveforms() -> list[Tensor]:
    """Real recordings, or noise that comes and goes where there are none."""
    if "SPEAKERQUANT_LIBRISPEECH" in os.environ:
        root = Path(os.environ["SPEAKERQUANT_LIBRISPEECH"]) / "train-clean-100"
        return [torch.from_numpy(read_waveform(root / name, 16000)) for name in find_recordings(root)[:3]]
    generator = torch.Generator().manual_seed(0)
    loudness = torch.sin(torch.arange(48000) / 3000).square() * 0.2
    return [loudness * torch.randn(48000, generator=generator) for _ in range(3)]


@pytest.fixture(params=PUBLISHED)
def published(request: pytest.FixtureRequest) -> tuple[Family, Network, Parameters]:
    family, network = PUBLISHED[request.param]
    parameters = Parameters()
    network(parameters, torch.randn(1, 80, 50))
    return family, network, parameters


def made(network: Network, n_mels: int = 80) -> dict[str, Tensor]:
    """The state dict of a family's network."""
    parameters = Parameters()
    network(parameters, torch.randn(1, n_mels, 50))
    return dict(parameters)


def distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def test_embeddings_are_those_of_the_published_definition(
    published: tuple[Family, Network, Parameters], waveforms: list[Tensor], tmp_path: Path
) -> None:
    family, network, parameters = published
    torch.save(dict(parameters), tmp_path / "model.pt")
    model = load_checkpoint(tmp_path / "model.pt", family=family)
    extract = FeatureExtractor(model.front_end)
    for waveform in waveforms:
        features = extract(waveform[None])
        assert distance(model.network(features), network(parameters, features)) <= 1e-4


def test_every_detail_is_that_of_the_published_definition(
    published: tuple[Family, Network, Parameters], tmp_path: Path
) -> None:
    """In double precision, on few frames that hardly move: small differences in definition are seen too."""
    family, network, parameters = published
    torch.save(dict(parameters), tmp_path / "model.pt")
    ours = load_checkpoint(tmp_path / "model.pt", family=family).network.double()
    for name, value in parameters.items():
        parameters[name] = value.double() if value.is_floating_point() else value
    generator = torch.Generator().manual_seed(0)
    for scale in (1.0, 1e-3):
        features = scale * torch.randn(2, 80, 12, generator=generator, dtype=torch.float64)
        with torch.inference_mode():
            assert distance(ours(features), network(parameters, features)) <= 1e-9


@pytest.mark.parametrize(("n_mels", "statistics"), [(80, 1), (80, 2), (64, 1)])
def test_another_pooling_is_not_silently_taken_for_fewer_bands(
    n_mels: int, statistics: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = made(resnet, n_mels)
    pooled = weights["seg_1.weight"].shape[1]
    weights["seg_1.weight"] = weights["seg_1.weight"][:, : pooled * statistics // 2].clone()
    torch.save(weights, tmp_path / "resnet.pt")
    network = load_checkpoint(tmp_path / "resnet.pt", family=Family.wespeaker).network
    assert network.n_mels == n_mels // 2 * statistics
    assert ("pooled by one of the two" in caplog.text) == (statistics == 1)


@pytest.mark.parametrize(
    ("n_mels", "said"), [(80, []), (128, ["4 of 128 mel bands"]), (240, ["36 of 240 mel bands"])]
)
def test_mel_bands_that_hold_no_frequency_are_told(
    n_mels: int, said: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(made(speechbrain, n_mels), tmp_path / "model.pt")
    assert load_checkpoint(tmp_path / "model.pt", family=Family.speechbrain).front_end.n_mels == n_mels
    assert [message.partition(" hold no frequency")[0] for message in caplog.messages] == said


def test_inputs_that_are_far_more_than_frequencies_are_no_mel_bands(tmp_path: Path) -> None:
    """As features of WavLM, of which there are 768 or 1024."""
    torch.save(made(speechbrain, 1024), tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"1024 mel bands, of which 627 hold no frequency .* other features"):
        load_checkpoint(tmp_path / "model.pt", family=Family.speechbrain)


def test_families_that_name_by_themselves_are_told_by_their_names(tmp_path: Path) -> None:
    for name in ("wespeaker", "voxceleb_trainer", "pyannote"):
        family, network = PUBLISHED[name]
        parameters = Parameters()
        network(parameters, torch.randn(1, 80, 50))
        torch.save({"model": dict(parameters)}, tmp_path / name)
        save_file(dict(parameters), tmp_path / f"{name}.safetensors")
        for path in (tmp_path / name, tmp_path / f"{name}.safetensors"):
            model = load_checkpoint(path)
            assert model.front_end == FRONT_ENDS[family]


def test_what_a_training_adds_is_left_out(tmp_path: Path) -> None:
    parameters = Parameters()
    voxceleb_trainer(parameters, torch.randn(1, 80, 50))
    parameters["speaker_loss.weight"] = torch.randn(10, 20)
    parameters["speaker_encoder.torchfbank.0.flipped_filter"] = torch.randn(1, 1, 2)
    torch.save({f"module.{name}": value for name, value in parameters.items()}, tmp_path / "model")
    assert load_checkpoint(tmp_path / "model").network.config.embedding_dim == 20
    parameters = Parameters()
    wespeaker(parameters, torch.randn(1, 80, 50), global_context=True, embedding_norm=False)
    for name in ("projection.weight", "projection_head.mlp.0.weight", "mlp.0.bias"):
        parameters[name] = torch.randn(10, 20)
    torch.save(dict(parameters), tmp_path / "model")
    assert load_checkpoint(tmp_path / "model").network.config.embedding_dim == 20


@pytest.mark.parametrize(
    ("prefix", "wrapper"),
    [
        *(
            (prefix, None)
            for prefix in ("module.", "_orig_mod.", "model._orig_mod.", "mods.embedding_model.")
        ),
        *((prefix, None) for prefix in ("backbone.", "module.student.net.")),
        *(("net.", wrapper) for wrapper in ("model_state_dict", "state_dict", "net")),
    ],
)
def test_ordinary_wrappings_are_taken_off(prefix: str, wrapper: str | None, tmp_path: Path) -> None:
    parameters = Parameters()
    wespeaker(parameters, torch.randn(1, 80, 50), global_context=True, embedding_norm=False)
    wrapped = {f"{prefix}{name}": value for name, value in parameters.items()}
    wrapped["classifier.weight"] = torch.randn(10, 20)
    wrapped["n_averaged"] = torch.tensor(5)
    torch.save({wrapper: wrapped, "epoch": 3} if wrapper else wrapped, tmp_path / "model.pt")
    loaded = load_checkpoint(tmp_path / "model.pt").network
    # Plain, and in the format of before PyTorch 1.6.
    torch.save(dict(parameters), tmp_path / "plain.pt", _use_new_zipfile_serialization=False)
    plain = load_checkpoint(tmp_path / "plain.pt").network
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("name", ["speechbrain", "wespeaker, global context", "voxceleb_trainer"])
def test_every_unit_of_every_family_can_be_int8(name: str, small: Subject, tmp_path: Path) -> None:
    family, network = PUBLISHED[name]
    parameters = Parameters()
    network(parameters, torch.randn(1, 80, 50))
    torch.save(dict(parameters), tmp_path / "model.pt")
    loaded = load_checkpoint(tmp_path / "model.pt", family=family).network
    units = loaded.units()
    assert list(units) == list(small.network.units())
    recordings = small.recordings[:2]
    table = calibrate(loaded, [torch.from_numpy(x) for x in recordings], "max")
    builder = OpenVinoBuilder()
    for mask, agreement in ((baseline_mask(units), 0.99999), (Mask(units, {"*": INT8}), 0.999)):
        simulated = simulate(loaded, mask, table, builder.weight_bits())
        write_model(loaded, tmp_path / "model.onnx", mask, table, builder.weight_bits())
        engine = builder.build(tmp_path / "model.onnx")
        embeddings = torch.stack([torch.from_numpy(x) for x in engine.embed_many(recordings)]).numpy()
        assert fidelity(embeddings, embed_with_network(simulated, recordings)) >= agreement


@pytest.mark.parametrize(
    "name",
    ["speechbrain", "wespeaker, global context", "voxceleb_trainer", "3D-Speaker, CAM++", "pyannote"],
)
def test_a_familys_checkpoint_is_fine_tuned(name: str, waveforms: list[Tensor], tmp_path: Path) -> None:
    """Training begins from its weights and front end, and leaves a checkpoint of ours."""
    family, network = PUBLISHED[name]
    parameters = Parameters()
    network(parameters, torch.randn(1, 80, 50))
    torch.save(dict(parameters), tmp_path / "model.pt")
    for speaker, waveform in enumerate(waveforms):
        (tmp_path / "speech" / f"id{speaker}").mkdir(parents=True)
        soundfile.write(tmp_path / "speech" / f"id{speaker}" / "1.wav", waveform.numpy(), 16000)
    model = load_checkpoint(tmp_path / "model.pt", family=family)
    features = FeatureExtractor(model.front_end)(waveforms[0][None])
    original = model.network(features)
    batches = TrainingBatches(
        [SpeechSource(tmp_path / "speech", 1.0)],
        Augmentation(AugmentationConfig(), 16000),
        sample_rate=16000,
        batch_size=4,
        crop_seconds=0.5,
        seed=0,
    )
    trainer = Trainer(Fabric(accelerator="cpu", precision="32-true"), model, batches, TWO_STEPS, {})
    embeddings: list[Tensor] = []

    def validate(network: nn.Module) -> dict[str, float]:
        embeddings.append(network(features).detach())
        return {}

    trainer.fit(tmp_path / "state", lambda step, metrics: None, validate)
    start, end = embeddings
    torch.testing.assert_close(start, original)
    assert end.isfinite().all() and distance(end, start) > 1e-3
    save_checkpoint(tmp_path / "tuned.safetensors", model.network, model.front_end)
    tuned = load_checkpoint(tmp_path / "tuned.safetensors")
    assert (tuned.network.config, tuned.front_end) == (model.network.config, model.front_end)
    assert distance(tuned.network(features), end) <= 1e-2  # weights are stored in FP16


@pytest.fixture
def speechbrains_ecapa_tdnn() -> Iterator[ModuleType]:
    """Its module, forgotten after the test.

    Its lazy modules stay in ``sys.modules`` and raise at any look at an attribute where what they stand for
    is not installed, and Hypothesis looks at all modules.
    """
    yield pytest.importorskip("speechbrain.lobes.models.ECAPA_TDNN", reason="speechbrain is not installed")
    for name in [name for name in sys.modules if name.split(".")[0] == "speechbrain"]:
        del sys.modules[name]


def test_speechbrain_itself_gives_the_same_embeddings(
    speechbrains_ecapa_tdnn: ModuleType, waveforms: list[Tensor], tmp_path: Path
) -> None:
    """Its network and its front end, on the same recordings."""
    from speechbrain.lobes.features import Fbank
    from speechbrain.processing.features import InputNormalization

    torch.manual_seed(0)
    network = speechbrains_ecapa_tdnn.ECAPA_TDNN(
        80, lin_neurons=192, channels=[64, 64, 64, 64, 192], attention_channels=32
    ).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0.0, 0.3)
    torch.save(network.state_dict(), tmp_path / "embedding_model.ckpt")
    model = load_checkpoint(tmp_path / "embedding_model.ckpt", family=Family.speechbrain)
    extract = FeatureExtractor(model.front_end)
    fbank, normalize = Fbank(n_mels=80), InputNormalization(norm_type="sentence", std_norm=False)
    for waveform in waveforms:
        theirs = network(normalize(fbank(waveform[None]), torch.ones(1)))[:, 0]
        assert distance(model.network(extract(waveform[None])), theirs) <= 1e-4


def test_wespeakers_features_are_kaldis_of_16_bit_integers(waveforms: list[Tensor]) -> None:
    extract = FeatureExtractor(FRONT_ENDS[Family.wespeaker])
    for waveform in waveforms:
        theirs = kaldi.fbank(
            waveform[None] * 2**15, num_mel_bins=80, window_type="hamming", sample_frequency=16000
        )
        assert distance(extract(waveform[None])[0], (theirs - theirs.mean(0)).T) <= 1e-4


def test_three_d_speakers_features_are_kaldis_defaults(waveforms: list[Tensor]) -> None:
    extract = FeatureExtractor(FRONT_ENDS[Family.three_d_speaker])
    for waveform in waveforms:
        theirs = kaldi.fbank(waveform[None], num_mel_bins=80, sample_frequency=16000)
        assert distance(extract(waveform[None])[0], (theirs - theirs.mean(0)).T) <= 1e-4


def test_the_trainers_features_are_of_centred_frames(waveforms: list[Tensor]) -> None:
    extract = FeatureExtractor(FRONT_ENDS[Family.voxceleb_trainer])
    mel = torchaudio.transforms.MelSpectrogram(
        16000, 512, 400, 160, f_min=20, f_max=7600, n_mels=80, window_fn=torch.hamming_window
    )
    for waveform in waveforms:
        before = torch.cat([waveform[1:2], waveform[:-1]])
        theirs = (mel(waveform - 0.97 * before) + 1e-6).log()
        assert distance(extract(waveform[None])[0], theirs - theirs.mean(1, keepdim=True)) <= 1e-4


@pytest.mark.parametrize(
    ("spoil", "family", "says"),
    [
        (lambda p: p, Family.speechbrain, "unknown in speechbrain; its names are those of wespeaker's ecapa"),
        (
            lambda p: p | {"layer9.odd.weight": torch.ones(2)},
            Family.wespeaker,
            "layer9.odd.weight is unknown",
        ),
        (
            lambda p: {name: value for name, value in p.items() if name != "pool.linear1.weight"},
            Family.wespeaker,
            "attentive_pooling.hidden.weight is missing for wespeaker",
        ),
        (
            lambda p: {name: value for name, value in p.items() if name != "layer3.se_res2block.2.bn.bias"},
            Family.wespeaker,
            "lacks se_res2block2.norm_out.bias; if it is another network",
        ),
        (
            lambda p: p | {"linear.weight": torch.ones(20, 95)},
            Family.wespeaker,
            "size mismatch.*if it is another network than ECAPA-TDNN, CAM\\+\\+ or ResNet, export it as ONNX",
        ),
        (lambda p: p | {"linear.weight": torch.ones(20)}, Family.wespeaker, "shapes are those of no"),
        (lambda p: p | {"conv.weight": torch.tensor(1.0)}, Family.wespeaker, "shapes are those of no"),
        (
            lambda p: p | {"layer2.se_res2block.1.convs.0.weight": torch.ones(0, 4, 3)},
            Family.wespeaker,
            "shapes are those of no",
        ),
        (
            lambda p: p | {"layer2.se_res2block.1.convs.0.weight": torch.ones(999, 4, 3)},
            Family.wespeaker,
            "shapes are those of no",
        ),
        (lambda p: ERES2NET, Family.three_d_speaker, "convs.0.weight is unknown in .*give model=onnx"),
        (
            lambda p: made(campplus) | {"head.gate.weight": torch.ones(2, 2)},
            Family.three_d_speaker,
            "head.gate.weight is unknown in three_d_speaker",
        ),
        (lambda p: ERES2NET, AUTO, "no network of a known family; .*give model=onnx"),
        (lambda p: {"encoder": torch.ones(2)}, AUTO, "no network of a known family"),
        (
            lambda p: {
                f"{prefix}.{name}": value for prefix in ("model", "encoder") for name, value in p.items()
            },
            Family.wespeaker,
            "model.layer1.conv.weight and encoder.layer1.conv.weight: the weights of two networks",
        ),
        (lambda p: {}, AUTO, "holds no weights by name; give"),
        (
            lambda p: {"teacher": p, "student": p, "epoch": 3},
            Family.three_d_speaker,
            "holds no weights by name, but teacher, student; save the one",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    spoil: Callable[[dict], dict], family: str, says: str, tmp_path: Path
) -> None:
    parameters = Parameters()
    wespeaker(parameters, torch.randn(1, 80, 50), global_context=True, embedding_norm=False)
    torch.save(spoil(dict(parameters)), tmp_path / "model.pt")
    with pytest.raises(UserError, match=says) as caught:
        load_checkpoint(tmp_path / "model.pt", family=family)
    assert "\n" not in str(caught.value) and str(caught.value).count(str(tmp_path)) == 1


@pytest.mark.parametrize(("network", "other"), [(speechbrain, "speechbrain"), (resnet, "wespeaker")])
def test_a_name_that_two_families_share_asks_for_the_choice(
    network: Network, other: str, tmp_path: Path
) -> None:
    parameters = Parameters()
    network(parameters, torch.randn(1, 80, 50))
    torch.save(dict(parameters), tmp_path / "model.pt")
    with pytest.raises(UserError, match=f"choose model={other} or model=three_d_speaker"):
        load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_one_line(share: float, tmp_path: Path) -> None:
    parameters = Parameters()
    wespeaker(parameters, torch.randn(1, 80, 50), global_context=True, embedding_norm=False)
    path = tmp_path / "model.pt"
    torch.save(dict(parameters), path)
    path.write_bytes(path.read_bytes()[: math.floor(share * path.stat().st_size)])
    with pytest.raises(UserError, match="no checkpoint, damaged") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
