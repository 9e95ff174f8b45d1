"""The examples as a user runs them."""

import itertools
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from processes import Program

from speakerquant.architectures.checkpoints import load_checkpoint, random_model, save_checkpoint
from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.audio.features import extract_features
from speakerquant.audio.front_end import FrontEnd
from speakerquant.cache import Cache
from speakerquant.corpus.recordings import find_recordings
from speakerquant.corpus.trials import read_trials, write_trials
from speakerquant.engine.openvino.openvino_engine import OpenVinoBuilder
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FP32, INT8
from speakerquant.quantization.simulate import simulate
from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.scores import cosine_scores

pytestmark = [pytest.mark.slow, pytest.mark.release]

EXAMPLES = Path(__file__).parents[1] / "examples"
EXAMPLE = EXAMPLES / "quantize_and_evaluate.py"


def run_example(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, EXAMPLE, *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def run_tutorial(*arguments: str) -> None:
    sys.argv = ["tutorial.py", *arguments]
    runpy.run_path(str(EXAMPLES / "tutorial.py"))


def write_small_checkpoint(path: Path, channels: int = 64, res2net_scale: int = 8) -> None:
    config = EcapaTdnnConfig(
        channels=channels,
        res2net_scale=res2net_scale,
        aggregation_channels=3 * channels,
        attention_channels=32,
        se_channels=16,
    )
    save_checkpoint(path, random_model(ECAPA_TDNN, config, FrontEnd(), 0).network, FrontEnd())


def write_all_pairs(corpus: Path, trials: Path) -> None:
    """The trial list of all pairs of recordings of a corpus of :func:`write_recordings`."""
    pairs = itertools.combinations(find_recordings(corpus), 2)
    write_trials(trials, ((left[:3] == right[:3], left, right) for left, right in pairs))


def test_quantize_and_evaluate_prints_what_the_simulated_networks_measure(tmp_path: Path) -> None:
    cache, corpus, others = Cache(tmp_path / "cache"), tmp_path / "corpus", tmp_path / "others"
    write_recordings(corpus, ["ann", "bob", "cid", "dot"], seed=0)
    write_recordings(others, ["eve", "fay"], seed=1)
    trials = tmp_path / "trials.txt"
    write_all_pairs(corpus, trials)
    checkpoint = tmp_path / "small.safetensors"
    write_small_checkpoint(checkpoint)

    finished = run_example(
        *("--root", corpus, "--trials", trials, "--calibration-root", others),
        *("--checkpoint", checkpoint, "--cache", cache.root),
    )

    assert finished.returncode == 0, finished.stderr
    heading, *lines = finished.stdout.splitlines()
    assert heading.split() == ["mask", "EER", "%", "size", "MB", "fidelity"]
    rows = {name: [float(number) for number in numbers] for name, *numbers in map(str.split, lines)}
    assert list(rows) == ["baseline", "mixed"]
    expected = simulated_eers(checkpoint, trials, corpus, others, cache)
    for name, (error_rate, _, fidelity) in rows.items():
        # Of 120 trials, rounding can change the order of a few.
        assert error_rate == pytest.approx(expected[name], abs=2)
        assert 0.999 <= fidelity <= 1
    parameters = sum(p.numel() for p in load_checkpoint(checkpoint).network.parameters())
    assert rows["baseline"][1] == pytest.approx(4 * parameters / 1e6, rel=0.5)
    assert rows["mixed"][1] < rows["baseline"][1]


def test_the_tutorial_leads_from_recordings_to_a_verified_pair(tmp_path: Path) -> None:
    test = tmp_path / "speech" / "test"
    write_recordings(test, ["ann", "bob", "cid", "dot"], seed=0)
    write_recordings(tmp_path / "speech" / "calibration", ["eve", "fay"], seed=1)
    write_all_pairs(test, test / "trials.txt")
    write_small_checkpoint(tmp_path / "small.safetensors", channels=32, res2net_scale=2)

    arguments = ("speech", "small.safetensors")
    code, printed = Program(run_tutorial, *arguments, folder=tmp_path, XDG_CACHE_HOME=str(tmp_path)).end()

    assert code == 0, printed
    assert "16 recordings, 120 trials; units: input_conv, se_res2block1, " in printed
    megabytes = {
        name: float(size) for name, size in re.findall(r"^(all INT8|4 bits) +([0-9.]+) MB", printed, re.M)
    }
    assert megabytes["4 bits"] < megabytes["all INT8"]
    front, picture = (re.search(rf"^{what}: (.+)$", printed, re.M)[1] for what in ("front", "picture"))
    assert "4 bits" in front, "the smallest engine is on every front"
    assert (tmp_path / picture).stat().st_size > 10_000
    decision = r"^speech/test/ann/0.wav\nspeech/test/ann/1.wav\n(same speaker|different speakers): "
    assert re.search(decision, printed, re.M)


def test_a_users_mistake_ends_in_one_line(tmp_path: Path) -> None:
    finished = run_example("--checkpoint", tmp_path / "none.safetensors", "--cache", tmp_path)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1].startswith(f"error: {tmp_path}/none.safetensors: no such")
    assert "Traceback" not in finished.stderr


def write_recordings(folder: Path, speakers: list[str], seed: int) -> None:
    """Four recordings of each speaker: white noise, and bursts of noise in the speaker's colour."""
    generator = np.random.default_rng(seed)
    for speaker in speakers:
        (folder / speaker).mkdir(parents=True)
        voice = generator.standard_normal(12)
        for index in range(4):
            colour = voice + 0.7 * generator.standard_normal(12)
            bursts = np.repeat(generator.random(20) > 0.5, 800)
            noise, voiced = generator.standard_normal((2, 16000))
            waveform = noise + 2 * bursts * np.convolve(voiced, colour, "same")
            soundfile.write(folder / speaker / f"{index}.wav", 0.01 * waveform, 16000)


def simulated_eers(
    checkpoint: Path, trial_list: Path, corpus: Path, others: Path, cache: Cache
) -> dict[str, float]:
    """EER in percent by the example's names of the masks, with PyTorch in place of engines."""
    model = load_checkpoint(checkpoint)
    trials = read_trials(trial_list)
    features = extract_features([corpus / name for name in trials.recordings], model.front_end, cache)
    calibration = extract_features([others / x for x in find_recordings(others)], model.front_end, cache)
    table = calibrate(model.network, map(torch.from_numpy, calibration.features))
    units = model.network.units()
    masks = {
        "baseline": Mask(units, {}),
        "mixed": Mask(units, dict.fromkeys(units, INT8) | {"se_res2block2": FP32, "se_res2block3": FP32}),
    }
    eers = {}
    for name, mask in masks.items():
        simulated = simulate(model.network, mask, table, OpenVinoBuilder().weight_bits())
        embeddings = embed_with_network(simulated, features.features)
        eers[name] = eer(cosine_scores(embeddings, trials.left, trials.right), trials.labels)
    return eers
