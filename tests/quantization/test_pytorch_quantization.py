"""What a process logs does not depend on whether it has begun to quantize."""

import subprocess
import sys

PROGRAM = """
import logging
import sys

logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s of a job: %(message)s")
from speakerquant.quantization.quantizers import insert_quantizers
logging.getLogger("speakerquant.commands.training").info("step 20")
from absl import logging as absl_logging
absl_logging.warning("a step of pytorch-quantization")
"""


def test_what_is_logged_stays_logged_once_networks_are_quantized() -> None:
    finished = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert finished.stderr == "INFO of a job: step 20\n"
