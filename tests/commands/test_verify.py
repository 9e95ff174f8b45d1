"""``speakerquant-verify``: a decision about two recordings, by an engine that a run has left."""

import base64
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import soundfile

from speakerquant.audio.waveform import Waveform, read_waveform
from speakerquant.commands import evaluate_mask, verify_speaker
from speakerquant.corpus.synthetic import TRIALS_FILE
from speakerquant.corpus.trials import read_trials
from speakerquant.errors import UserError
from speakerquant.verification import served_verifier
from speakerquant.verification.verifier import Verifier

from .conftest import Command, Finished, Workspace, exit_code

pytestmark = pytest.mark.slow

Verify = Callable[..., Finished]


@pytest.fixture(scope="module")
def measured(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("measured")
    arguments = [*workspace.arguments(), "mask=embedding_linear", f"hydra.run.dir={folder}"]
    assert exit_code(evaluate_mask.main, *arguments) == 0
    return folder


@pytest.fixture
def engine(measured: Path, tmp_path: Path) -> Path:
    """The engine of the run, in a copy of its folder."""
    return Path(shutil.copytree(measured, tmp_path / "run")) / "engine.openvino"


@pytest.fixture
def verify(engine: Path, invoke: Command) -> Verify:
    return lambda *arguments: invoke(verify_speaker.main, "--model", engine, *arguments)


def test_score_is_that_of_the_run_and_the_threshold_that_of_its_eer(
    workspace: Workspace, engine: Path, verify: Verify
) -> None:
    trials = read_trials(workspace.corpus / TRIALS_FILE)
    known = np.load(engine.with_name("scores.npy"))
    calibration = json.loads(engine.with_name("result.json").read_text())["score_calibration"]
    for index in (0, len(trials) - 1):
        pair = [workspace.corpus / trials.recordings[side[index]] for side in (trials.left, trials.right)]
        finished = verify(*pair)
        assert finished.code == 0, finished.err
        found = re.fullmatch(
            r"(the same|another) speaker: score (\S+), threshold (\S+), log-likelihood ratio (\S+), \d+ ms",
            finished.out.strip(),
        )
        assert found, finished.out
        ratio = calibration["slope"] * float(found[2]) + calibration["offset"]
        assert float(found[4]) == pytest.approx(ratio, abs=0.006)
        score, threshold = float(found[2]), float(found[3])
        assert score == pytest.approx(known[index], abs=1e-5)
        assert (found[1] == "the same") == (score >= threshold)
    rejected, accepted = known[trials.labels] < threshold, known[~trials.labels] >= threshold
    assert rejected.mean() == pytest.approx(accepted.mean(), abs=0.1)


def test_what_changes_for_users_where_an_engine_replaces_another(
    workspace: Workspace, engine: Path, verify: Verify, invoke: Command, tmp_path: Path
) -> None:
    trials = read_trials(workspace.corpus / TRIALS_FILE)
    pairs = list(zip(trials.left, trials.right, strict=True))[:12]
    listed = tmp_path / "pairs.txt"
    names = [[workspace.corpus / trials.recordings[each] for each in pair] for pair in pairs]
    listed.write_text("\n".join(f"{left} {right}" for left, right in names) + "\n\n")
    by_itself = verify("--list", listed, "--replaces", engine).out.splitlines()
    assert len(by_itself) == 4, "no decision flips"
    assert all(line.endswith("of 12 decisions 0 become 'same', 0 'other'") for line in by_itself[1:])
    coarse = tmp_path / "coarse"
    arguments = [*workspace.arguments(), "mask=all_int2", "rounding=nearest", f"hydra.run.dir={coarse}"]
    assert invoke(evaluate_mask.main, *arguments).code == 0
    known, scores = (np.load(folder / "scores.npy")[:12] for folder in (coarse, engine.parent))
    threshold = float(np.median(known))
    finished = verify("--list", listed, "--replaces", coarse, "--threshold", threshold)
    assert finished.code == 0, finished.err
    *flipped, before, same_threshold, own, kept = finished.out.splitlines()
    expected = np.flatnonzero((known >= threshold) != (scores >= threshold))
    assert [line.split("\t")[3] for line in flipped] == [" ".join(map(str, names[i])) for i in expected]
    assert len(expected) > 0
    assert before == f"in use, threshold {threshold:.6f}: 50.00 % the same speaker"
    newly = np.count_nonzero((scores >= threshold) & (known < threshold))
    assert f"of 12 decisions {newly} become 'same'" in same_threshold
    assert own.startswith("new, its own threshold") and kept.startswith(
        "new, speakers enrolled by the engine"
    )
    (engine.parent / "scores.npy").unlink()  # so that the new engine has no threshold of its own
    without = verify("--list", listed, "--replaces", coarse, "--threshold", threshold)
    answered = "\n".join([*flipped, before, same_threshold, kept]) + "\n"
    assert without.out.endswith(answered)
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(names[0][0].read_bytes()[:1000])
    listed.write_text(f"{names[0][0]} {damaged}\n{listed.read_text()}")
    incomplete = verify("--list", listed, "--replaces", coarse, "--threshold", threshold)
    assert incomplete.code == 2 and incomplete.out.endswith(answered)
    assert f"error: {listed}:1: {damaged}: truncated" in incomplete.err


def test_what_a_server_cannot_read_is_named_by_its_row(workspace: Workspace, engine: Path) -> None:
    verifier = served_verifier._load_pyfunc(str(engine.parent))
    speech = sorted(workspace.corpus.rglob("*.wav"))[0].read_bytes()
    for tested, said in (
        (speech[:100], ""),
        ("é", "not base64"),
        (None, r"shape \(\), neither an audio file nor samples"),
        ([0.1, None], "samples that are NaN or infinite"),
    ):
        rows = pandas.DataFrame({"enrolled": [speech, speech], "tested": [speech, tested]})
        with pytest.raises(UserError, match=f"^row 1, tested: {said}"):
            verifier.predict(rows, {"threshold": 0.5})
    for threshold in (math.nan, 75.0):
        with pytest.raises(UserError, match=r"^threshold of .*: scores are cosines"):
            verifier.predict(rows, {"threshold": threshold})


def test_samples_are_taken_as_programs_have_them(workspace: Workspace, engine: Path) -> None:
    path = sorted(workspace.corpus.rglob("*.wav"))[0]
    speech = read_waveform(path, 16000)
    read_only = np.frombuffer(speech.tobytes(), np.float32)
    with Verifier.load(str(engine.parent)) as verifier:
        expected = verifier.read(str(path)).features
        for samples in (speech, speech.astype(float), speech.tolist(), speech[::-1][::-1], read_only):
            taken = verifier.take("a", samples)
            np.testing.assert_array_equal(taken.features, expected)
            assert taken.doubt is None
        assert verifier.take("a", speech[::-1]).features.shape == expected.shape
        large = verifier.take("a", 32768 * speech).doubt
        assert large is not None and large.startswith("samples as large as ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda speech: np.where(np.arange(len(speech)) == 5, np.nan, speech), "samples that are NaN"),
        (
            lambda speech: np.stack([speech, speech], axis=1),
            r"shape \(\d+, 2\), neither an audio file",
        ),
        (lambda speech: speech[np.newaxis], r"shape \(1, \d+\), neither an audio file"),
        (lambda speech: (32767 * speech).astype(np.int16), r"integers as large as \d+; divide them"),
        (lambda speech: speech[:0], "no samples"),
        (lambda speech: [speech, speech[:9]], "neither an audio file nor samples"),
    ],
)
def test_samples_that_cannot_be_taken_are_said_in_one_line(
    workspace: Workspace, measured: Path, change: Callable[[Waveform], Any], said: str
) -> None:
    speech = read_waveform(sorted(workspace.corpus.rglob("*.wav"))[0], 16000)
    with Verifier.load(measured) as verifier, pytest.raises(UserError, match=f"^a: {said}") as caught:
        verifier.take("a", change(speech))
    assert "\n" not in str(caught.value)


def test_a_recording_comes_to_a_server_in_any_of_its_forms(workspace: Workspace, engine: Path) -> None:
    verifier = served_verifier._load_pyfunc(str(engine.parent))
    path = sorted(workspace.corpus.rglob("*.wav"))[0]
    speech, samples = path.read_bytes(), list(read_waveform(path, 16000))
    forms = [speech, base64.b64encode(speech).decode(), base64.encodebytes(speech).decode(), samples]
    rows = pandas.DataFrame({"enrolled": [speech] * len(forms), "tested": forms})
    for answer in verifier.predict(rows, {"threshold": 0.5}):
        assert answer["score"] == pytest.approx(1.0, abs=1e-6)


def test_a_server_says_what_it_doubts_and_what_it_does_not_know(workspace: Workspace, engine: Path) -> None:
    result = engine.with_name("result.json")
    result.write_text(result.read_text().replace('"scoring": "none"', '"scoring": "as_norm"'))
    verifier = served_verifier._load_pyfunc(str(engine.parent))
    speech = sorted(workspace.corpus.rglob("*.wav"))[0].read_bytes()
    file = io.BytesIO()
    soundfile.write(file, np.zeros(16000), 16000, format="FLAC")
    rows = pandas.DataFrame(
        {"enrolled": [speech, [speech, file.getvalue()]], "tested": [speech, [0.0] * 16000]}
    )
    answers = verifier.predict(rows, {"threshold": 0.5})
    assert [answer["doubt"] for answer in json.loads(json.dumps(answers, allow_nan=False))] == [
        None,
        "enrolled: silent throughout; tested: silent throughout",
    ]
    assert all(answer["log_likelihood_ratio"] is None for answer in answers)


def test_an_engine_of_tensorrt_is_verified_where_it_is_found_and_up_to_its_longest_recording(
    workspace: Workspace,
    invoke: Command,
    tmp_path: Path,
    tensorrt_stand_in: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = [*workspace.arguments(), "mask=none", "engine=tensorrt", f"hydra.run.dir={tmp_path}/run"]
    assert invoke(evaluate_mask.main, *built, f"engine.python={tensorrt_stand_in()}").code == 0
    first, second = sorted(workspace.corpus.rglob("*.wav"))[:2]
    command = (verify_speaker.main, "--model", tmp_path / "run")
    without = invoke(*command, first, second)
    assert without.code == 2 and "SPEAKERQUANT_TENSORRT_PYTHON" in without.err
    monkeypatch.setenv("SPEAKERQUANT_TENSORRT_PYTHON", tensorrt_stand_in())
    assert "score" in invoke(*command, first, second).out
    long, questions = tmp_path / "long.wav", tmp_path / "questions.txt"
    soundfile.write(long, np.tile(soundfile.read(first)[0], 20), 16000)
    questions.write_text(f"{first} {long}\n{first} {second}\n")
    finished = invoke(*command, "--list", questions)
    assert finished.code == 2
    assert [line.split("\t")[0] == "-" for line in finished.out.splitlines()] == [True, False]
    longest = json.loads((tmp_path / "run" / "engine.tensorrt.json").read_text())["settings"]["max_frames"]
    said = rf"error: {questions}:1: {long}: \d+ frames, and the engine takes {longest} at most; "
    assert re.search(said, finished.err)


def test_replacing_needs_a_list(engine: Path, verify: Verify) -> None:
    finished = verify("--replaces", engine, "a.wav", "b.wav")
    assert finished.code == 2
    assert "--replaces: give a --list" in finished.err


def test_a_speaker_may_be_enrolled_with_several_recordings(workspace: Workspace, verify: Verify) -> None:
    first, second, tested = sorted(workspace.corpus.rglob("*.wav"))[:3]
    scores = []
    for enrolled in ([first], [second], [first, second]):
        found = re.search(r"score (\S+),", verify(*enrolled, tested).out)
        assert found
        scores.append(float(found[1]))
    assert scores[2] == pytest.approx(np.mean(scores[:2]), abs=2e-6)
    assert scores[2] != pytest.approx(scores[0], abs=1e-4)


def test_the_channel_that_was_measured_is_verified(
    workspace: Workspace, speakerquant: Command, invoke: Command, tmp_path: Path
) -> None:
    stereo = {name: tmp_path / name for name in ("corpus", "calibration")}
    for name, folder in stereo.items():
        source = getattr(workspace, name)
        for path in source.rglob("*.wav"):
            speech, rate = soundfile.read(path)
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(copy, np.stack([np.sin(np.arange(len(speech)) / 9), speech], axis=1), rate)
    finished = speakerquant(
        *workspace.arguments(),
        *(f"data.root={stereo['corpus']}", f"data.calibration_root={stereo['calibration']}"),
        *("data.channel=2", "mask=none", f"hydra.run.dir={tmp_path}/run"),
    )
    assert finished.code == 0, finished.err
    trials = read_trials(workspace.corpus / TRIALS_FILE)
    names = [trials.recordings[side[0]] for side in (trials.left, trials.right)]
    command = (verify_speaker.main, "--model", tmp_path / "run")
    found = re.search(r"score (\S+),", invoke(*command, *(stereo["corpus"] / name for name in names)).out)
    known = np.load(tmp_path / "run" / "scores.npy")
    assert found and float(found[1]) == pytest.approx(known[0], abs=1e-5)
    finished = invoke(*command, *(workspace.corpus / name for name in names))
    assert finished.code == 2
    assert "has no channel 2, only 1" in finished.err


def test_a_network_is_no_engine(engine: Path, invoke: Command, tmp_path: Path) -> None:
    network = shutil.copy(engine.with_name("model.onnx"), tmp_path)
    finished = invoke(verify_speaker.main, "--model", network, "a.wav", "b.wav")
    assert (finished.code, finished.err) == (
        2,
        f"error: {network}: a network, not an engine; give the folder of its run\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--false-accepts", "0"], "false accepts of 0 %: give percent"),
        (["--threshold", "nan"], "threshold of nan: scores are cosines; give a number from -1 to 1"),
        (["--threshold", "75"], "threshold of 75: scores are cosines"),
        (["nowhere.wav"], "nowhere.wav"),
        (
            ["--model", "verifier@champion"],
            "error: verifier@champion: no such file; give a run's folder",
        ),
    ],
)
def test_a_mistake_is_one_line(workspace: Workspace, verify: Verify, arguments: list[str], said: str) -> None:
    finished = verify(*sorted(workspace.corpus.rglob("*.wav"))[:2], *arguments)
    assert finished.code == 2
    assert said in finished.err
    assert finished.err.count("\n") == 1


def test_a_rate_that_the_list_cannot_show_is_said_so(
    workspace: Workspace, verify: Verify, caplog: pytest.LogCaptureFixture
) -> None:
    pair = sorted(workspace.corpus.rglob("*.wav"))[:2]
    assert verify(*pair, "--false-accepts", "50").code == 0
    assert not caplog.records
    assert verify(*pair, "--false-accepts", "0.01").code == 0
    [record] = caplog.records
    assert record.getMessage().startswith("false accepts of 0.01 %: 96 non-target trials do not show that")


def test_a_list_is_verified_line_by_line(
    workspace: Workspace,
    engine: Path,
    verify: Verify,
    invoke: Command,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second, third = sorted(workspace.corpus.rglob("*.wav"))[:3]
    spaced, questions = tmp_path / "a b.wav", tmp_path / "questions.txt"
    spaced.hardlink_to(third)
    asked = [(first, second), (), (first, second, third), (first, second), (third, first), (third, spaced)]
    texts = [" ".join(map(str, recordings)) for recordings in asked]
    texts[-1] = f'{third}\t"{spaced}"'
    questions.write_text("".join(f"{text}\n" for text in texts))
    finished = invoke(verify_speaker.main, "--model", engine.parent, "--list", questions)
    assert finished.code == 0, finished.err
    assert "questions.txt:6: the tested recording is one of the speaker's" in caplog.text
    for line, text, recordings in zip(finished.out.splitlines(), texts, asked, strict=True):
        if not recordings:
            assert line == ""
            continue
        decision, score, _, question = line.split("\t", maxsplit=3)
        alone = verify(*recordings).out
        assert f"score {score}" in alone
        assert alone.startswith("the same" if decision == "same" else "another")
        assert question == text
    questions.write_text(f"{first}\n")
    finished = invoke(verify_speaker.main, "--model", engine, "--list", questions)
    assert (finished.code, finished.err.count("\n")) == (2, 1)
    assert "questions.txt:1: one recording" in finished.err
    questions.write_text(f"{first} {second}\n{first} nowhere.wav\n")
    finished = invoke(verify_speaker.main, "--model", engine, "--list", questions)
    assert (finished.code, finished.out, finished.err.count("\n")) == (2, "", 1)
    assert "questions.txt:2: nowhere.wav: no such recording" in finished.err


def test_a_line_that_cannot_be_answered_costs_no_other(
    workspace: Workspace, verify: Verify, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = sorted(workspace.corpus.rglob("*.wav"))[:2]
    silent, damaged, short = (tmp_path / f"{name}.wav" for name in ("silent", "damaged", "short"))
    soundfile.write(silent, np.zeros(16000), 16000)
    damaged.write_bytes(first.read_bytes()[:1000])
    soundfile.write(short, np.zeros(300), 16000)
    asked = [(first, silent), (damaged, second), (first, short, second), (first, second)]
    lines = [" ".join(map(str, recordings)) for recordings in asked]
    questions = tmp_path / "questions.txt"
    questions.write_text("\n".join(lines))
    finished = verify("--list", questions)
    answers = [line.split("\t") for line in finished.out.splitlines()]
    assert [answer[3] for answer in answers] == lines
    assert [answer[:3] == ["-", "-", "-"] for answer in answers] == [False, True, True, False]
    assert f"score {answers[3][1]}" in verify(first, second).out
    assert finished.code == 2
    said = finished.err.splitlines()[-1]
    assert said.startswith(f"error: {questions}:2: {damaged}: truncated recording; ")
    assert said.endswith(" (lines without an answer: 2)")
    assert f"{silent}: silent throughout" in caplog.text


def test_a_recording_that_is_too_short_is_named(workspace: Workspace, verify: Verify, tmp_path: Path) -> None:
    short = tmp_path / "short.wav"
    soundfile.write(short, np.random.default_rng(0).standard_normal(300), 16000)
    finished = verify(sorted(workspace.corpus.rglob("*.wav"))[0], short)
    assert finished.code == 2
    assert "short.wav" in finished.err


def test_normalised_scores_tell_no_threshold_of_cosines(
    workspace: Workspace, engine: Path, verify: Verify
) -> None:
    result = engine.with_name("result.json")
    result.write_text(result.read_text().replace('"scoring": "none"', '"scoring": "as_norm"'))
    finished = verify(*sorted(workspace.corpus.rglob("*.wav"))[:2])
    assert finished.code == 2
    assert "normalised (as_norm)" in finished.err


def test_without_known_scores_a_threshold_is_asked_for(
    workspace: Workspace, engine: Path, verify: Verify
) -> None:
    engine.with_name("scores.npy").unlink()
    pair = sorted(workspace.corpus.rglob("*.wav"))[:2]
    finished = verify(*pair)
    assert finished.code == 2
    assert "give one (speakerquant-verify --threshold" in finished.err
    assert "another speaker" in verify(*pair, "--threshold", "1").out
