"""Masks evaluated as a user of the library does it: without configuration, without MLflow."""

import itertools
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Subject

from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.architectures.ecapa_tdnn.config import Padding
from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn
from speakerquant.architectures.units import Granularity
from speakerquant.audio.front_end import FrontEnd
from speakerquant.cache import Cache
from speakerquant.corpus.evaluation_data import EvaluationData, open_evaluation_data
from speakerquant.corpus.recordings import find_recordings, open_recordings
from speakerquant.corpus.trials import Trials, write_trials
from speakerquant.engine.openvino.openvino_engine import OpenVinoBuilder
from speakerquant.engine.provenance import read_provenance
from speakerquant.errors import UserError
from speakerquant.measuring.evaluator import MaskEvaluator
from speakerquant.measuring.listener import EvaluationListener, MeasuredOn
from speakerquant.measuring.protocol import Protocol
from speakerquant.measuring.result import Result, is_of_embeddings
from speakerquant.measuring.settings import EvaluationSettings
from speakerquant.quantization.mask import Mask, baseline_mask
from speakerquant.quantization.precision import FP16, FP32, INT2, INT4, INT8, Precision
from speakerquant.recovery.settings import RecoverySettings
from speakerquant.statistics.error_rates import ScoredTrials, eer
from speakerquant.statistics.score_norm import ScoreNorm
from speakerquant.statistics.swap_metrics import operating_points

FILES = {
    "calibration.safetensors",
    "engine.openvino",
    "engine.openvino.json",
    "labels.npy",
    "draws.npz",
    "model.onnx",
    "result.json",
    "scores.npy",
}


def write_recordings(folder: Path, speakers: list[str], seed: int) -> None:
    """Three seconds' worth of coloured noise in two recordings of each speaker."""
    generator = np.random.default_rng(seed)
    for speaker in speakers:
        (folder / speaker).mkdir(parents=True)
        voice = generator.standard_normal(12)
        for index in range(2):
            colour = voice + 0.5 * generator.standard_normal(12)
            waveform = np.convolve(generator.standard_normal(24_000 + 800 * index), colour, "same")
            soundfile.write(folder / speaker / f"{index}.wav", 0.01 * waveform, 16000)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EvaluationData:
    folder = tmp_path_factory.mktemp("corpus")
    tested, others, trials = folder / "tested", folder / "others", folder / "trials.txt"
    write_recordings(tested, ["ann", "bob", "cid", "dot"], seed=0)
    write_recordings(others, ["eve", "fay"], seed=1)
    pairs = itertools.combinations(find_recordings(tested), 2)
    write_trials(trials, ((left[:3] == right[:3], left, right) for left, right in pairs))
    return open_evaluation_data(
        open_recordings(tested), trials, open_recordings(others), num_calibration=4, calibration_seed=0
    )


Make = Callable[..., MaskEvaluator]


@pytest.fixture(scope="module")
def make_in(small: Subject, data: EvaluationData) -> Make:
    """Evaluators of the small network with the cache in a folder."""

    def evaluator(folder: Path, protocol: Protocol | None = None, **settings: Any) -> MaskEvaluator:
        model = SpeakerModel(small.network, FrontEnd(), "small")
        chosen = EvaluationSettings(**settings)
        return MaskEvaluator(model, data, OpenVinoBuilder(), Cache(folder), protocol or Protocol(), chosen)

    return evaluator


@pytest.fixture(scope="module")
def shared(make_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with what all masks share, and nothing else."""
    folder = tmp_path_factory.mktemp("shared")
    _ = make_in(folder).baseline
    return folder


@pytest.fixture
def make(make_in: Make, shared: Path, tmp_path: Path) -> Make:
    """Evaluators that all have one cache, of the test's own, with what masks share."""
    return partial(make_in, shutil.copytree(shared, tmp_path / "cache"))


def entries(cache: Cache) -> dict[str, dict[str, int]]:
    """Of every kind of entry the files by name, with what tells whether they were written anew."""
    found: dict[str, dict[str, int]] = {}
    for entry in cache.entries():
        found.setdefault(entry.kind, {})[entry.path.name] = entry.path.stat().st_ino
    return found


@dataclass
class Heard(EvaluationListener):
    """What was heard, with the files that were in the folder then."""

    folder: Path
    inputs: list[MeasuredOn] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    files: list[set[str]] = field(default_factory=list)

    def inputs_known(self, inputs: MeasuredOn) -> None:
        self.inputs.append(inputs)
        self._look()

    def finished(self, result: Result) -> None:
        self.results.append(result)
        self._look()

    def _look(self) -> None:
        self.files.append({path.name for path in self.folder.iterdir()})


def test_a_second_mask_finds_what_masks_share(make_in: Make, tmp_path: Path) -> None:
    evaluator = make_in(tmp_path / "cache")
    mixed = Mask(evaluator.units, {"*": INT8, "se_res2block[23]": FP32})
    first = evaluator.evaluate(mixed, tmp_path / "mixed")
    before = entries(evaluator.cache)
    second = evaluator.evaluate(Mask(evaluator.units, {"*": INT8}), tmp_path / "all")
    after = entries(evaluator.cache)
    shared = ("baselines", "features", "graphs", "ranges")
    assert [len(before[kind]) for kind in shared] == [1, 2, 1, 1]
    assert {kind: after[kind] for kind in shared} == {kind: before[kind] for kind in shared}
    assert len(after["embeddings"]) == len(before["embeddings"]) + 1
    assert second.numbers["baseline_eer"] == first.numbers["baseline_eer"]
    baseline_sizes = [
        each["engine_size_bytes"] / each["size_ratio"] for each in (first.metrics(), second.metrics())
    ]
    assert baseline_sizes[0] == pytest.approx(baseline_sizes[1])
    once = ("features", "calibration", "graph", "baseline")
    assert sum(second.seconds[stage] for stage in once) < 0.1 * sum(first.seconds[stage] for stage in once)


def test_another_evaluator_finds_it_in_the_cache(make: Make, tmp_path: Path) -> None:
    mask = Mask(make().units, {"aggregation_conv": INT8})
    first = make().evaluate(mask, tmp_path / "first")
    before = entries(make().cache)
    again = make().evaluate(mask, str(tmp_path / "again"))
    assert entries(make().cache) == before
    for name in ("eer", "eer_low", "min_dcf"):
        assert again.numbers[name] == first.numbers[name]


def test_the_baseline_differs_from_itself_in_nothing(make: Make, tmp_path: Path) -> None:
    evaluator = make()
    result = evaluator.evaluate(baseline_mask(evaluator.units), tmp_path / "none")
    assert (result.numbers["delta_eer"], result.numbers["size_ratio"]) == (0.0, 1.0)
    baseline = evaluator.baseline
    assert result.numbers["baseline_eer"] == eer(baseline.scores, evaluator.data.trials.labels)
    assert result.numbers["baseline_eer"] == result.numbers["eer"]
    assert len(entries(evaluator.cache)["embeddings"]) == 1, "it is measured once"


def test_voiceprints_of_the_same_engine_give_its_error_rate(
    make: Make, data: EvaluationData, tmp_path: Path
) -> None:
    for protocol in (Protocol(), Protocol(ScoreNorm.s_norm, cohort=data.calibration)):
        evaluator = make(protocol)
        result = evaluator.evaluate(baseline_mask(evaluator.units), tmp_path)
        swap = result.swap
        assert swap["voiceprints_eer"] == swap["baseline_voiceprints_eer"] == result.numbers["eer"]
        assert swap["delta_voiceprints_eer"] == swap["flips_at_eer"] == swap["delta_cllr"] == 0.0
        assert swap["min_cllr"] == swap["baseline_min_cllr"]


def test_voiceprints_are_enrolled_by_the_baseline_and_tested_by_the_mask(make: Make, tmp_path: Path) -> None:
    evaluator = make()
    mask = Mask(evaluator.units, {"*": INT2})
    result = evaluator.evaluate(mask, tmp_path)
    [measured] = evaluator.measure([mask], [tmp_path])
    trials = evaluator.data.trials
    enrolled, tested = (
        each / np.linalg.norm(each, axis=1, keepdims=True)
        for each in (evaluator.baseline.embeddings, measured.embedded.embeddings)
    )
    scores = (enrolled[trials.left] * tested[trials.right]).sum(axis=1)
    assert result.swap["voiceprints_eer"] == pytest.approx(eer(scores, trials.labels))
    accepted = scores >= result.thresholds["eer"]
    assert result.swap["voiceprints_far_at_eer"] == pytest.approx(100 * accepted[~trials.labels].mean())
    before = entries(evaluator.cache)
    names = [name for name in result.metrics() if is_of_embeddings(name)]
    assert {"delta_eer_high", "swap.flips_at_eer", "swap.voiceprints_eer", "swap.delta_cllr"} < {*names}
    told = evaluator.numbers_of(measured.embedded.embeddings, names)
    assert told == {name: result.metrics()[name] for name in names}, "embeddings tell them without an engine"
    assert entries(evaluator.cache) == before


def test_thresholds_are_from_the_development_list_where_there_is_one(
    make: Make, data: EvaluationData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = tmp_path / "trials.txt"
    names = data.trials.recordings
    kept = [
        (is_target, names[left], names[right])
        for left, right, is_target in zip(
            data.trials.left, data.trials.right, data.trials.labels, strict=True
        )
    ]
    write_trials(pairs, kept[::2])
    others = open_recordings(data.calibration[0].parents[1])
    development = open_evaluation_data(data.source, pairs, others, num_calibration=4, calibration_seed=0)
    alone = make()
    tuned = replace(alone, development=lambda: development)
    mask = Mask(alone.units, {"*": INT8})
    of_itself = alone.evaluate(mask, tmp_path / "mask")
    said = "no development list: FP32's thresholds and calibration are from the test list itself"
    assert said in caplog.text
    caplog.clear()
    of_others = tuned.evaluate(mask, tmp_path / "mask")
    assert said not in caplog.text
    assert caplog.text.count("calibrating on") == 1, "both lists calibrate on the same speech"
    assert (of_itself.thresholds_from, of_others.thresholds_from) == ("test", "development")
    scores = replace(alone, data=development).baseline.scores
    [point] = operating_points(ScoredTrials.of(scores, development.trials.labels), [])
    assert of_others.thresholds == {"eer": point.threshold} != of_itself.thresholds
    assert of_others.numbers["eer"] == of_itself.numbers["eer"]


def test_listeners_hear_of_the_inputs_before_the_engine_and_of_the_result_last(
    make: Make, data: EvaluationData, tmp_path: Path
) -> None:
    evaluator, heard = make(), Heard(tmp_path / "mask")
    result = evaluator.evaluate(Mask(evaluator.units, {"*": INT8}), tmp_path / "mask", heard)
    [inputs] = heard.inputs
    assert heard.files == [{"calibration.safetensors"}, FILES]
    assert heard.results == [result]
    assert (inputs.data, inputs.trial_list) == (data, "test")
    assert inputs.digests["checkpoint"] == "small" and inputs.digests["trials"] == data.trials_digest
    assert inputs.digests["recordings"] and inputs.digests["cohort"] == ""
    assert "OpenVINO" in inputs.environment


class Inputs(EvaluationListener):
    """Hears of the inputs, and of nothing else, as that ends the evaluation."""

    def inputs_known(self, inputs: MeasuredOn) -> None:
        self.digests = inputs.digests
        raise UserError("enough")


def test_all_that_numbers_depend_on_is_recorded_where_a_mask_uses_it(
    make: Make, data: EvaluationData, tmp_path: Path
) -> None:
    def recorded(evaluator: MaskEvaluator, precision: Precision = INT8) -> Mapping[str, str]:
        heard = Inputs()
        with pytest.raises(UserError, match="enough"):
            evaluator.evaluate(Mask(evaluator.units, {"aggregation_conv": precision}), tmp_path, heard)
        return heard.digests

    def changed(by_name: Mapping[str, str], first: Mapping[str, str]) -> set[str]:
        return {name for name, value in by_name.items() if value != first[name]}

    evaluator = make()
    plain, in_few_bits = recorded(evaluator), recorded(evaluator, INT4)
    assert changed(in_few_bits, plain) == {"rounding"}
    fewer = replace(data, rounding=lambda: data.calibration[:2])
    assert changed(recorded(replace(evaluator, data=fewer), INT4), in_few_bits) == {"rounding"}
    assert changed(recorded(replace(evaluator, data=fewer)), plain) == set()
    sexes = {"sex": ["f", "m"] * (len(data.recordings) // 2)}
    others = replace(data, speakers=np.arange(len(data.recordings), dtype=np.int32), conditions=sexes)
    assert changed(recorded(replace(evaluator, data=others)), plain) == {"speakers", "conditions"}
    assert changed(recorded(replace(evaluator, development=lambda: others)), plain) == {"development"}


def test_a_mask_that_the_engine_does_not_run_is_refused_before_any_work(
    make_in: Make, tmp_path: Path
) -> None:
    evaluator, heard = make_in(tmp_path / "cache"), Heard(tmp_path / "mask")
    mask = Mask(evaluator.units, {"aggregation_conv": FP16})
    with pytest.raises(UserError, match=r"mask\.aggregation_conv=fp16: the engine openvino does not run it"):
        evaluator.evaluate(mask, tmp_path / "mask", heard)
    with pytest.raises(UserError, match=r"mask\.aggregation_conv=fp16"):
        evaluator.measure([baseline_mask(evaluator.units), mask], [tmp_path / "mask"] * 2)
    assert not evaluator.cache.root.exists()
    assert not (tmp_path / "mask").exists()
    assert heard.inputs == heard.results == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"latency_requests": -1}, r"engine\.latency_requests=-1"),
        ({"fidelity_recordings": 0}, r"engine\.fidelity_recordings=0"),
        ({"min_fidelity": float("nan")}, r"engine\.min_fidelity=nan"),
        ({"channel": 0}, r"data\.channel=0: channels are counted from 1"),
        ({"method": "guess"}, r"calibration\.method: unknown method 'guess'"),
        ({"percentile": 101}, r"calibration\.percentile: 101"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        EvaluationSettings(**settings)


def test_hessians_are_gathered_when_a_mask_needs_them(make: Make, tmp_path: Path) -> None:
    evaluator = make()
    masks = [Mask(evaluator.units, {"aggregation_conv": precision}) for precision in (INT8, INT4)]
    kinds = [
        {*entries(evaluator.cache)} & {"hessians", "rounded_weights"}
        for _ in evaluator.measure(masks, [tmp_path / "int8", tmp_path / "int4"])
    ]
    assert kinds == [set(), {"hessians", "rounded_weights"}]


def test_a_recovered_mask_is_an_ordinary_result_and_says_what_it_is(make: Make, tmp_path: Path) -> None:
    evaluators = {"plain": make(), "recovering": make(recovery=RecoverySettings(steps=2, batch_size=2))}
    rounded, recovered = (
        each.evaluate(Mask(each.units, {"*": INT2}), tmp_path / name) for name, each in evaluators.items()
    )
    assert rounded.to_dict().keys() == recovered.to_dict().keys()
    assert rounded.numbers["size_ratio"] == pytest.approx(recovered.numbers["size_ratio"], abs=1e-3)
    assert recovered.embeddings != rounded.embeddings
    assert recovered.numbers["baseline_eer"] == rounded.numbers["baseline_eer"]
    of_rounded, of_recovered = (
        read_provenance(tmp_path / name / "engine.openvino").network for name in evaluators
    )
    words = "descent for 800 pieces of recordings"
    assert of_rounded["rounding"] == words
    assert of_recovered["rounding"].startswith(f"{words}, then recovery in 2 steps of 2 pieces of speech")
    assert of_rounded["checkpoint"] == of_recovered["checkpoint"] == "small"


def test_masks_can_be_of_single_layers_and_their_requests_timed(make: Make, tmp_path: Path) -> None:
    evaluator = make(units=Granularity.layer, latency_requests=2)
    mask = Mask(evaluator.units, {"se_res2block1.conv_in": INT8})
    [measured] = evaluator.measure([mask], [tmp_path / "mask"])
    assert measured.latency is not None and measured.latency.ms_p50 > 0
    assert [unit for unit, precision in measured.mask.items() if precision == INT8] == [
        "se_res2block1.conv_in"
    ]


def test_a_cohort_is_part_of_what_is_measured(make: Make, data: EvaluationData, tmp_path: Path) -> None:
    plain, normalised = make(), make(Protocol(ScoreNorm.s_norm, cohort=data.calibration))
    scores, digests = [], []
    for evaluator, folder in ((plain, tmp_path / "plain"), (normalised, tmp_path / "normalised")):
        heard = Heard(folder)
        evaluator.evaluate(baseline_mask(evaluator.units), folder, heard)
        scores.append(np.load(folder / "scores.npy"))
        digests += [each.digests["cohort"] for each in heard.inputs]
    assert not np.allclose(*scores)
    assert digests[0] == "" != digests[1]
    assert len(entries(plain.cache)["baselines"]) == 2, "one for each protocol"


def test_little_to_calibrate_on_is_said_and_recorded(
    make: Make, data: EvaluationData, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    evaluator = make()
    result = evaluator.evaluate(baseline_mask(evaluator.units), tmp_path)
    seconds = sum(soundfile.info(path).duration for path in data.calibration)
    assert result.calibration_recordings == len(data.calibration) == 4
    assert result.calibration_seconds == pytest.approx(seconds, abs=0.03 * len(data.calibration))
    assert result.metrics()["calibration_seconds"] == result.calibration_seconds
    assert f"calibrating on {result.calibration_seconds:.1f} s of speech in 4 recordings" in caplog.text


def test_a_list_too_short_for_a_difference_is_said_to_be_and_shows_none(
    make: Make, data: EvaluationData, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The second recording of a speaker is nearly the first, so that no mask makes an error."""
    for path in data.recordings[::2]:
        copies = tmp_path / "tested" / path.parent.name
        copies.mkdir(parents=True)
        waveform, rate = soundfile.read(path)
        for start in (0, 160):  # a frame
            soundfile.write(copies / f"{start}.wav", waveform[start:], rate)
    trials, pairs = tmp_path / "trials.txt", itertools.combinations(find_recordings(tmp_path / "tested"), 2)
    write_trials(trials, ((left[:3] == right[:3], left, right) for left, right in pairs))
    others = open_recordings(data.calibration[0].parents[1])
    easy = open_evaluation_data(
        open_recordings(tmp_path / "tested"), trials, others, num_calibration=4, calibration_seed=0
    )
    evaluator = replace(make(), data=easy)
    none = evaluator.evaluate(baseline_mask(evaluator.units), tmp_path / "none").numbers
    assert (none["eer"], none["delta_eer_low"], none["delta_eer_high"]) == (0, 0, 0)
    assert "ΔEER" not in caplog.text
    mask = Mask(evaluator.units, {"*": INT8})
    numbers = evaluator.evaluate(mask, tmp_path / "all").numbers
    assert numbers["eer"] == numbers["delta_eer"] == 0
    assert numbers["delta_eer_low"] == -numbers["delta_eer_high"] < -0.1
    assert "draws of the test list's speakers do not move ΔEER one way" in caplog.text
    assert caplog.text.count("the test list is of 4 speakers, and intervals of differences can be") == 1


def test_a_list_of_twenty_speakers_is_not_said_to_be_short(
    make: Make, data: EvaluationData, caplog: pytest.LogCaptureFixture
) -> None:
    speakers = np.repeat(np.arange(20), 2)
    left, right = np.triu_indices(len(speakers), 1)
    trials = Trials((*map(str, speakers),), left, right, speakers[left] == speakers[right])
    assert replace(make(), data=replace(data, trials=trials, speakers=speakers)).bootstrap.num_speakers == 20
    assert not caplog.text


def test_a_recording_of_a_length_that_the_network_does_not_take_is_named(
    small: Subject, make: Make, data: EvaluationData, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "short.wav", np.ones(600), 16000)
    network = EcapaTdnn(replace(small.network.config, padding=Padding.reflect))
    evaluator = replace(
        make(),
        model=SpeakerModel(network, FrontEnd(), "reflecting"),
        data=replace(data, calibration=[tmp_path / "short.wav"]),
    )
    with pytest.raises(UserError, match=r"short\.wav: 1 frames, and the network needs 5; take"):
        _ = evaluator.features


def test_fewer_recordings_than_asked_for_and_a_single_speaker_are_said(
    data: EvaluationData, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    write_recordings(tmp_path / "alone", ["gus"], seed=2)
    trials = tmp_path / "trials.txt"
    write_trials(trials, [(True, "ann/0.wav", "ann/1.wav"), (False, "ann/0.wav", "bob/0.wav")])
    alone = open_recordings(tmp_path / "alone")
    open_evaluation_data(data.source, trials, alone, num_calibration=50, calibration_seed=0)
    assert (
        f"{alone.source}: calibrating on 2 recordings, all there are; calibration.num_recordings=50"
        in caplog.text
    )
    assert "all calibration recordings are of one speaker, gus" in caplog.text
    caplog.clear()
    others = open_recordings(data.calibration[0].parents[1])
    open_evaluation_data(data.source, trials, others, num_calibration=4, calibration_seed=0)
    assert not caplog.text
