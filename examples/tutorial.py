# %% [markdown]
# # From recordings to a verifier, in Python
#
# The library alone, without Hydra and MLflow: two masks of a network, their front, a picture of it, and
# two recordings verified by an engine. Run the cells in an editor that knows `# %%`, or all of them:
#
# ```
# python examples/tutorial.py speech checkpoint.safetensors
# ```
#
# `speech` holds `test/` with the list `trials.txt` in it, and `calibration/` with recordings of other
# speakers. Without a checkpoint it is the one that comes with the package.

# %%
import sys
from pathlib import Path

import numpy as np

import speakerquant as sq

speech = Path(sys.argv[1])
checkpoint = Path(sys.argv[2]) if len(sys.argv) > 2 else sq.shipped_checkpoint()
results = Path("outputs") / "tutorial"

# %% [markdown]
# ## Network and recordings
#
# A checkpoint holds the network and the settings of the features that it was trained on. The recordings to
# calibrate on are of speakers that are not tested; others are refused.

# %%
model = sq.load_checkpoint(checkpoint)
trials = speech / "test" / "trials.txt"
data = sq.open_evaluation_data(
    sq.open_recordings(speech / "test"),
    trials,
    sq.open_recordings(speech / "calibration"),
    num_calibration=50,
    calibration_seed=0,
)
evaluator = sq.MaskEvaluator(model, data, sq.engine_builder("openvino"))
print(f"{len(data.recordings)} recordings, {len(data.trials)} trials; units: {', '.join(evaluator.units)}")

# %% [markdown]
# ## Masks
#
# A mask gives every unit of the network a precision. Its keys are names or patterns, and the last that fits
# a unit decides. Each mask becomes a real engine, which is weighed, run, and compared with FP32's.

# %%
masks = {
    "all INT8": sq.Mask(evaluator.units, {"*": "int8"}),
    "4 bits": sq.Mask(evaluator.units, {"*": "int4"}),
}
found = {name: evaluator.evaluate(mask, results / name) for name, mask in masks.items()}
for name, result in found.items():
    numbers = result.metrics()
    low, high = numbers["delta_eer_low"], numbers["delta_eer_high"]
    print(
        f"{name:10} {numbers['engine_size_bytes'] / 1e6:7.3f} MB, EER {numbers['eer']:6.3f} %, "
        f"{numbers['delta_eer']:+.3f} [{low:+.3f}, {high:+.3f}]"
    )

# %% [markdown]
# ## The front
#
# Those that no other beats in size without losing in EER. On a short list differences are smaller than
# their intervals: which of two masks is on the front may be chance, and the interval says so.

# %%
points = np.array([[each.numbers["engine_size_bytes"], each.numbers["eer"]] for each in found.values()])
front = [name for name, is_best in zip(found, sq.pareto_front(points), strict=True) if is_best]
print("front:", ", ".join(front))

# %% [markdown]
# ## A picture
#
# Size against loss, with intervals.

# %%
sq.draw_runs([result.as_run() for result in found.values()], results / "masks.png")
print("picture:", results / "masks.png")

# %% [markdown]
# ## Two recordings
#
# An engine file says which features it takes, so it is all that a verifier needs. The threshold here is
# that of FP32's EER on the list: whether a mask may keep it, the results say too.

# %%
chosen = front[0]
with sq.Verifier.load(results / chosen / "engine.openvino") as verifier:
    pair = [verifier.read(path) for path in data.recordings[:2]]
    left, right = verifier.embed(pair)
score = float(left @ right)
decision = "same speaker" if score >= found[chosen].thresholds["eer"] else "different speakers"
print(f"{pair[0].name}\n{pair[1].name}\n{decision}: {score:.3f}")
