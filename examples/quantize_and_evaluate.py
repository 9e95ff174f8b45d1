"""Quantizes a speaker-verification network and measures it, with the library alone: no Hydra, no MLflow.

    python examples/quantize_and_evaluate.py
    python examples/quantize_and_evaluate.py --root voxceleb1/wav --trials veri_test2.txt \\
        --calibration-root voxceleb2/wav

The first command uses the shipped checkpoint and synthetic speech, which it generates; the second one uses
your recordings. Both build two OpenVINO engines, one in FP32 and one with most of the layers in INT8, and
print the equal error rate, the size and the fidelity of each: how closely it computes what its mask says.
"""

import argparse
import tempfile
from pathlib import Path

from speakerquant import (
    Cache,
    Mask,
    MaskEvaluator,
    UserError,
    engine_builder,
    load_checkpoint,
    open_evaluation_data,
    open_recordings,
    shipped_checkpoint,
)

# Synthetic speech and the type of what is opened are no public names.
from speakerquant.corpus.evaluation_data import EvaluationData, open_synthetic_evaluation_data
from speakerquant.corpus.synthetic import TEST


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="folder of the recordings that the trial list names")
    parser.add_argument("--trials", type=Path, help="trial list, lines such as '1 a/1.wav a/2.wav'")
    parser.add_argument("--calibration-root", type=Path, help="folder of recordings of other speakers")
    parser.add_argument("--checkpoint", type=Path, default=shipped_checkpoint())
    parser.add_argument("--cache", type=Path, help="folder of what is computed once (default: the user's)")
    arguments = parser.parse_args()
    given = [arguments.root, arguments.trials, arguments.calibration_root]
    if any(given) and not all(given):
        parser.error("--root, --trials and --calibration-root belong together")
    try:
        quantize_and_evaluate(arguments)
    except UserError as error:  # one line that says what is wrong, where, and what to do
        parser.exit(2, f"error: {error}\n")


def quantize_and_evaluate(arguments: argparse.Namespace) -> None:
    cache = Cache(arguments.cache)
    # A checkpoint holds the network and the settings of the features that it was trained on.
    model = load_checkpoint(arguments.checkpoint)
    # What masks share, such as the ranges of the network's layers, is made once, when it is needed.
    evaluator = MaskEvaluator(model, open_data(arguments, cache), engine_builder("openvino"), cache)

    # A mask gives every unit of the network a precision. Its keys are names or patterns; the last that fits a
    # unit decides, and units that none fits stay in FP32. `list(evaluator.units)` gives the names.
    masks = {
        "baseline": Mask(evaluator.units, {}),
        "mixed": Mask(evaluator.units, {"*": "int8", "se_res2block[23]": "fp32"}),
    }

    # Each mask leaves engine, ONNX graph, scores and result in a folder; name one of your own to keep them.
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'mask':10} {'EER %':>8} {'size MB':>9} {'fidelity':>9}")
        for name, mask in masks.items():
            metrics = evaluator.evaluate(mask, Path(folder) / name).metrics()
            eer, size, fidelity = (metrics[each] for each in ("eer", "engine_size_bytes", "fidelity"))
            print(f"{name:10} {eer:8.3f} {size / 1e6:9.3f} {fidelity:9.5f}", flush=True)


def open_data(arguments: argparse.Namespace, cache: Cache) -> EvaluationData:
    """The trial list with its recordings, and recordings of other speakers to calibrate on."""
    if arguments.root is None:
        return open_synthetic_evaluation_data(TEST, 0, cache, num_calibration=50, calibration_seed=0)
    return open_evaluation_data(
        open_recordings(arguments.root),
        arguments.trials,
        open_recordings(arguments.calibration_root),
        num_calibration=50,
        calibration_seed=0,
        keep_repeated_trials=True,  # as official lists of VoxCeleb have some
    )


if __name__ == "__main__":
    main()
