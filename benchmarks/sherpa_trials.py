"""Masks as sherpa-onnx runs them: its scores of ten trials beside those of the engines that are measured.

    pip install sherpa-onnx==2.0.1
    python benchmarks/sherpa_trials.py model=campplus data=folder data.root=... data.trials=... \\
        data.calibration_root=...

For the network in FP32, INT8 and 4 bits: size of the file that ``speakerquant-export`` writes; smallest
cosine of sherpa-onnx's embeddings with the engine's; the same of the engine with itself under noise of the
size of rounding errors, which any two engines may differ by; the scores of both. In the first row the engine
is given the features that the network was trained with, while sherpa-onnx computes its own.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from opened_run import open_run

from speakerquant.audio.feature_extractor import FeatureExtractor
from speakerquant.audio.features import FeatureArray
from speakerquant.audio.front_end import FrontEnd
from speakerquant.audio.waveform import Waveform, inspect_waveform
from speakerquant.corpus.trials import Trials
from speakerquant.deployment.clients import CLIENTS
from speakerquant.deployment.drop_in import write_drop_in
from speakerquant.engine.base import Engine
from speakerquant.measuring.check import Agreement
from speakerquant.measuring.stage_times import StageTimes
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FP32, INT4, INT8
from speakerquant.statistics.scores import Embeddings, cosine_scores

FORMAT = "sherpa_onnx"
OF_EACH_KIND = 5


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="settings of speakerquant")
    overrides = ["engine=onnxruntime", *parser.parse_args().overrides]
    if find_spec("sherpa_onnx") is None:
        sys.exit("sherpa-onnx is not installed: pip install sherpa-onnx==2.0.1")
    logging.disable(logging.WARNING)
    trained_with = open_run(overrides).evaluator.model.front_end
    evaluator = open_run([*overrides, f"model/front_end={FORMAT}"]).evaluator
    front_end, building = evaluator.model.front_end, evaluator.pipeline.building
    trials = ten_trials(evaluator.data.trials)
    paths = [evaluator.data.recordings[index] for index in trials.ravel().tolist()]
    waveforms = [inspect_waveform(path, front_end.sample_rate).waveform for path in paths]
    print("| mask | MB | smallest cosine | engine with itself | scores here | scores of sherpa-onnx |")
    print("|---" * 6 + "|")
    for precision in (FP32, INT8, INT4):
        mask = Mask(evaluator.units, {"*": precision})
        with tempfile.TemporaryDirectory() as name:
            path = building.write(evaluator.prepared, mask, Path(name), StageTimes())
            file = Path(name) / "drop_in.onnx"
            write_drop_in(path, CLIENTS[FORMAT], file)
            theirs = embedded_by_sherpa_onnx(file, waveforms, front_end.sample_rate)
            title = f"{precision.name} | {file.stat().st_size / 1e6:.3f}"
            with building.build(path, StageTimes()) as built:
                if precision is FP32:
                    print_row(
                        "fp32, as trained | ", built.runner, features_of(waveforms, trained_with), theirs
                    )
                print_row(title, built.runner, features_of(waveforms, front_end), theirs)


def print_row(title: str, engine: Engine, features: Sequence[FeatureArray], theirs: Embeddings) -> None:
    """Print a row of the table, from recordings of which two and two are a trial."""
    agreement = Agreement.of(lambda _: theirs, lambda given: embedded(engine, given), features, np.inf)
    cosines = f"{agreement.cosine:.5f} | {agreement.itself:.5f}"
    scores = (in_words(each) for each in (embedded(engine, features), theirs))
    print(f"| {title} | {cosines} | {' | '.join(scores)} |", flush=True)


def in_words(embeddings: Embeddings) -> str:
    """The scores of trials of two and two recordings."""
    places = np.arange(len(embeddings))
    return " ".join(f"{score:.3f}" for score in cosine_scores(embeddings, places[::2], places[1::2]))


def ten_trials(trials: Trials) -> npt.NDArray[np.int32]:
    """Recordings ``[10, 2]`` of target trials and others, from all over the list."""
    chosen = []
    for label in (True, False):
        [places] = np.nonzero(trials.labels == label)
        chosen.extend(places[np.linspace(0, len(places) - 1, OF_EACH_KIND).astype(int)])
    return np.stack([trials.left[chosen], trials.right[chosen]], axis=1)


def features_of(waveforms: Sequence[Waveform], front_end: FrontEnd) -> list[FeatureArray]:
    """Features ``[n_mels, T]`` of each."""
    extractor = FeatureExtractor(front_end)
    return [extractor.extract(waveform) for waveform in waveforms]


def embedded(engine: Engine, features: Sequence[FeatureArray]) -> Embeddings:
    """Embeddings ``[N, dim]`` by an engine."""
    return np.stack([*engine.embed_many(features)])


def embedded_by_sherpa_onnx(file: Path, waveforms: Sequence[Waveform], sample_rate: int) -> Embeddings:
    """Embeddings ``[N, dim]`` by sherpa-onnx, which is given waveforms."""
    import sherpa_onnx

    extractor = sherpa_onnx.SpeakerEmbeddingExtractor(
        sherpa_onnx.SpeakerEmbeddingExtractorConfig(model=str(file))
    )
    embeddings = []
    for waveform in waveforms:
        stream = extractor.create_stream()
        stream.accept_waveform(sample_rate, waveform)
        stream.input_finished()
        embeddings.append(extractor.compute(stream))
    return np.array(embeddings, np.float32)


if __name__ == "__main__":
    main()
