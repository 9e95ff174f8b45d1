"""How good a front the search finds: ``python benchmarks/search_quality.py [--trials 40 --seeds 5]``.

Every mask of the shipped checkpoint is measured once on the development list with the real engine (on first
use, half an hour on two cores; kept in the user's cache folder). Searches with several samplers then replay
that table, and the hypervolume of what they found is given relative to that of all masks together. Reference
point: 1.1 times the FP32 engine's size and 1.1 times the worst EER.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path

from hydra import compose, initialize_config_dir

from speakerquant.cache import Cache, atomic_path, digest
from speakerquant.config import RunConfig, register_schemas, typed
from speakerquant.engine.cpu import describe_cpu
from speakerquant.entry_point import config_folder
from speakerquant.evaluation.mask_evaluation import MaskEvaluator, StageTimes
from speakerquant.inputs import calibrated, load_model, open_inputs
from speakerquant.model.units import block_units
from speakerquant.progress import track
from speakerquant.quantization.mask import Mask


def measure_all_masks() -> dict[str, dict[str, float]]:
    """``eer`` and ``engine_size_bytes`` by ``Mask.key``, measured where they have not been yet."""
    register_schemas()
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = typed(compose("run", overrides=["data.evaluate_on=development"]), RunConfig)
    cache = Cache()
    model = load_model(config.model)
    inputs = open_inputs(config, model, cache)
    builder = inputs.builder
    key = digest(model.digest, inputs.features.digest, inputs.data.trials_digest, builder.device)
    path = cache.root / "benchmarks" / f"masks-{key}.json"
    figures: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    evaluator = MaskEvaluator(
        model.network,
        calibrated(config.calibration, inputs, cache),
        builder,
        weight_bits=inputs.weight_bits,
        features=inputs.features.features,
        trials=inputs.data.trials,
        fidelity_features=inputs.calibration.features[: config.engine.fidelity_recordings],
        min_fidelity=config.engine.min_fidelity,
    )
    units = block_units(model.network)
    masks = [
        Mask(units, dict(zip(units, precisions, strict=True)))
        for precisions in itertools.product(("fp32", "int8"), repeat=len(units))
    ]
    for mask in track(masks, "masks", total=len(masks)):
        if mask.key not in figures:
            with tempfile.TemporaryDirectory() as folder:
                measured = evaluator.evaluate(mask, Path(folder), StageTimes())
            figures[mask.key] = {"eer": measured.eer, "engine_size_bytes": measured.size_bytes}
            with atomic_path(path) as part:
                part.write_text(json.dumps(figures, indent=1))
    return figures


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(describe_cpu())
    print(len(measure_all_masks()))
