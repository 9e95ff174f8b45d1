"""Other tools' ways to a front, for ``front_vs_peers.py``; the extra ``peers`` installs those that it can."""

import copy
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ways import FindFront, Way, measure, open_afresh

from speakerquant.graph.export import export_network
from speakerquant.graph.masking import write_mask
from speakerquant.measuring.evaluator import MaskEvaluator
from speakerquant.quantization.mask import Mask, baseline_mask
from speakerquant.quantization.precision import INT2, INT4, Precision
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.scores import cosine_scores

# Effective bits a weight, as Model Optimizer counts them, that it is to choose formats for.
BUDGETS = (8, 6, 5, 4, 3.5, 3, 2.5, 2)
# Our precision by the bits of the format that it corresponds to.
PRECISIONS = {8: "int8", 4: "int4", 2: "int2"}


def peer(package: str, find: FindFront) -> FindFront:
    """The way of a tool, or the tool's own word on why it cannot go it here."""

    def run(folder: Path) -> Way:
        if find_spec(package) is None:
            return Way(0, 0, [], "not installed")
        try:
            return find(folder)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            return Way(0, 0, [], f"{type(error).__name__}: {reason}")

    return run


def accuracy_control(max_drop: float) -> FindFront:
    """NNCF's accuracy control: quantized layers go back to FP32 until no more EER is lost than that."""

    def run(folder: Path) -> Way:
        import nncf
        import openvino as ov

        opened = open_afresh(folder)
        features, trials = opened.features.tested.features, opened.data.trials
        ranges = opened.ranges  # which NNCF has no need of
        validations = 0

        def validate(model: Any, recordings: Any) -> tuple[float, None]:
            nonlocal validations
            validations += 1
            embeddings = np.concatenate([np.asarray(model([each])[0]) for each in recordings])
            return 100 - eer(cosine_scores(embeddings, trials.left, trials.right), trials.labels), None

        start = time.perf_counter()
        path = _exported(opened, ranges, folder)
        quantized = nncf.quantize_with_accuracy_control(
            ov.Core().read_model(path),
            nncf.Dataset([each[np.newaxis] for each in opened.features.calibration.features]),
            nncf.Dataset([each[np.newaxis] for each in features]),
            validate,
            max_drop=max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
        )
        compiled = ov.Core().compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        seconds = time.perf_counter() - start
        score, _ = validate(compiled, [each[np.newaxis] for each in features])
        size = len(compiled.export_model().getvalue())
        remark = f"NNCF {version('nncf')}, at most {max_drop:g} % lost, {validations - 1} validations"
        return Way(seconds, 1, [(float(size), 100 - score)], remark)

    return run


def _exported(opened: MaskEvaluator, ranges: CalibrationTable, folder: Path) -> Path:
    network, path = opened.model.network, folder / "model.onnx"
    write_mask(export_network(network, network.n_mels), baseline_mask(opened.units), ranges, path)
    return path


def auto_quantize(folder: Path) -> Way:
    """Model Optimizer's choice of a format for every layer, once for each budget, measured with our engines.

    It has INT8, and weights of 4 and 2 bits grouped as ours, to choose from. It minimises the sum over layers
    of the squared change of their outputs times the loss's gradient there, on the calibration recordings. The
    loss is the normalised embedding along a random direction: its squared gradient is, in expectation, that
    of the whole embedding, so the sum stands for the squared distance between embeddings. (That distance
    itself has no gradient where nothing is quantized yet.)
    """
    import modelopt.torch.quantization as mtq

    start = time.perf_counter()
    opened = open_afresh(folder, "units=layer")
    network = copy.deepcopy(opened.model.network)
    generator = torch.Generator().manual_seed(0)
    recordings = [
        (torch.from_numpy(each).unsqueeze(0), torch.randn(network.embedding_dim, generator=generator))
        for each in opened.features.calibration.features
    ]
    formats = [mtq.INT8_DEFAULT_CFG, *(_weights_only(precision) for precision in (INT4, INT2))]
    ready = time.perf_counter()
    _, state = mtq.auto_quantize(
        network,
        {"effective_bits": max(BUDGETS)},
        formats,
        recordings,
        forward_step=lambda model, batch: model(batch[0]),
        loss_func=lambda embedding, batch: (F.normalize(embedding) * batch[1]).sum(),
        num_calib_steps=len(recordings),
        num_score_steps=len(recordings),
        module_search_spaces=[  # the formats again, without leaving layers in floating point
            {"module_name_patterns": "*", "quantization_formats": formats, "allow_no_quant": False}
        ],
    )
    masks = [
        Mask(opened.units, _precisions(mtq.get_auto_quantize_config(state, {"effective_bits": bits})))
        for bits in BUDGETS
    ]
    seconds = time.perf_counter() - ready
    points = measure(opened, masks, folder)
    remark = f"Model Optimizer {version('nvidia-modelopt')} chose in {seconds:.0f} s, engines are ours"
    return Way(time.perf_counter() - start, len(masks), points, remark)


def _weights_only(precision: Precision) -> dict[str, Any]:
    """Weights of so many bits; input channels share scales in groups, and nothing else does."""
    assert precision.weights is not None
    blocks = {1: precision.weights.group_size, "type": "static"}
    quantizer = {"num_bits": precision.weights.bits, "block_sizes": blocks}
    return {
        "quant_cfg": [
            {"quantizer_name": "*", "enable": False},
            {"quantizer_name": "*weight_quantizer", "cfg": quantizer},
        ],
        "algorithm": "max",
    }


def _precisions(config: dict[str, Any]) -> dict[str, str]:
    """Precision by layer, of a configuration of Model Optimizer's that names quantizers by layers."""
    suffix = ".weight_quantizer"
    return {
        entry["quantizer_name"].removesuffix(suffix): PRECISIONS[entry["cfg"]["num_bits"]]
        for entry in config["quant_cfg"]
        if entry["quantizer_name"].endswith(suffix)
    }


def mixed_precision(folder: Path) -> Way:
    """AIMET's automatic mixed precision: of how many layers it knows the cost.

    It lowers layers while the EER allows, and counts what that saves in operations of Conv2d and Linear only.
    """
    from aimet_torch.layer_database import LayerDatabase

    opened = open_afresh(folder, "units=layer")
    recording = torch.from_numpy(opened.features.calibration.features[0]).unsqueeze(0)
    counted = LayerDatabase(opened.model.network, recording).get_compressible_layers()
    known = f"the cost of {len(counted)} of {len(opened.units)} layers"
    return Way(0, 0, [], f"AIMET {version('aimet-torch')} knows {known}, and of no Conv1d")
