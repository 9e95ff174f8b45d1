"""Against SpeechBrain's own pipeline: ``python benchmarks/peers.py [--root FOLDER] [--checkpoint FILE]``.

The same recordings, network and processors: SpeechBrain's ``EncoderClassifier``, one recording at a time with
all processors, and this project's front end and OpenVINO engine, in FP32 and all INT8. Runs are interleaved
and repeated; the figures are medians, of features and network together. Without a checkpoint the weights are
random, which changes no speed; without a folder, recordings are noise of 8 s.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from speechbrain.inference.speaker import EncoderClassifier
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization

from speakerquant.architectures.checkpoints import SpeakerModel, load_checkpoint
from speakerquant.architectures.family import Family
from speakerquant.audio.feature_extractor import FeatureExtractor
from speakerquant.audio.waveform import Waveform, read_waveform
from speakerquant.corpus.recordings import find_recordings
from speakerquant.engine.base import Engine, FloatArray
from speakerquant.engine.cpu import available_cpus, describe_cpu
from speakerquant.engine.openvino.openvino_engine import OpenVinoBuilder
from speakerquant.graph.export import export_network
from speakerquant.graph.masking import write_mask
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.mask import Mask, baseline_mask
from speakerquant.quantization.precision import INT8

# As in the configuration of spkrec-ecapa-voxceleb.
CHANNELS = [1024, 1024, 1024, 1024, 3072]
SAMPLE_RATE = 16000

Run = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="folder of recordings")
    parser.add_argument("--checkpoint", type=Path, help="embedding_model.ckpt of SpeechBrain")
    parser.add_argument("--recordings", type=int, default=24, help="recordings in a run")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each")
    arguments = parser.parse_args()
    console = Console()
    torch.set_num_threads(available_cpus())
    waveforms = _waveforms(arguments.root, arguments.recordings)
    seconds = sum(map(len, waveforms)) / SAMPLE_RATE
    console.print(
        f"{describe_cpu()}, {available_cpus()} threads; {len(waveforms)} recordings, {seconds:.0f} s"
    )
    network = ECAPA_TDNN(80, lin_neurons=192, channels=CHANNELS).eval()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint or Path(folder) / "embedding_model.ckpt"
        if arguments.checkpoint is None:
            torch.save(network.state_dict(), checkpoint)
        network.load_state_dict(torch.load(checkpoint, weights_only=True))
        model = load_checkpoint(checkpoint, family=Family.speechbrain)
        runs: dict[str, Run] = {"SpeechBrain": _speechbrain(network, waveforms)}
        for name, engine in _engines(model, waveforms, Path(folder)).items():
            runs[f"OpenVINO, {name}"] = _ours(model, engine, waveforms)
    console.print(_table(_medians(runs, arguments.repeats), len(waveforms), seconds))


def _waveforms(root: Path | None, count: int) -> list[Waveform]:
    if root is None:
        generator = np.random.default_rng(0)
        return [0.1 * generator.standard_normal(8 * SAMPLE_RATE, dtype=np.float32) for _ in range(count)]
    return [read_waveform(root / name, SAMPLE_RATE) for name in find_recordings(root)[:count]]


def _speechbrain(network: ECAPA_TDNN, waveforms: Sequence[Waveform]) -> Run:
    modules = {
        "compute_features": Fbank(n_mels=80),
        "mean_var_norm": InputNormalization(norm_type="sentence", std_norm=False),
        "embedding_model": network,
        "classifier": torch.nn.Identity(),
    }
    classifier = EncoderClassifier(modules=modules, hparams={"label_encoder": None})

    def run() -> list[torch.Tensor]:
        with torch.inference_mode():
            return [classifier.encode_batch(torch.from_numpy(waveform)[None]) for waveform in waveforms]

    return run


def _engines(model: SpeakerModel, waveforms: Sequence[Waveform], folder: Path) -> dict[str, Engine]:
    network, builder = model.network, OpenVinoBuilder()
    extractor, units = FeatureExtractor(model.front_end), network.units()
    table = calibrate(network, [extractor(torch.from_numpy(x)[None])[0] for x in waveforms[:4]])
    graph = export_network(network, network.n_mels)
    path = folder / "model.onnx"
    engines = {}
    for name, mask in {"FP32": baseline_mask(units), "all INT8": Mask(units, {"*": INT8})}.items():
        write_mask(graph, mask, table, path, max_weight_bits=builder.weight_bits())
        engines[name] = builder.build(path)
    return engines


def _ours(model: SpeakerModel, engine: Engine, waveforms: Sequence[Waveform]) -> Run:
    extractor = FeatureExtractor(model.front_end)

    def features() -> Iterator[FloatArray]:
        with ThreadPoolExecutor(1) as pool:
            yield from pool.map(extractor.extract, waveforms)

    return lambda: list(engine.embed_many(features()))


def _medians(runs: dict[str, Run], repeats: int) -> dict[str, float]:
    """Seconds per run; one more run of each warms it up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(measured[1:]) for name, measured in times.items()}


def _table(medians: dict[str, float], count: int, seconds: float) -> Table:
    table = Table(title="ECAPA-TDNN of SpeechBrain's size, features and network")
    for heading in ("pipeline", "recordings per second", "real-time factor", "throughput of SpeechBrain"):
        table.add_column(heading, justify="left" if heading == "pipeline" else "right")
    for name, median in medians.items():
        ratio = medians["SpeechBrain"] / median
        table.add_row(name, f"{count / median:.1f}", f"{median / seconds:.4f}", f"{ratio:.2f}x")
    return table


if __name__ == "__main__":
    main()
