"""``speakerquant-engine``: what an engine file is, and how fast it runs here."""

import argparse

from speakerquant.commands.console_script import RUN_NAMES, importing, run_command


def _command() -> None:
    parser = argparse.ArgumentParser(prog="speakerquant-engine", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {
        "info": "what an engine file is",
        "bench": "how fast it runs here: latency, throughput, real-time factor",
    }.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("model", help=RUN_NAMES)
    commands.choices["bench"].add_argument(
        "--python",
        help="interpreter that has TensorRT; default: that of SPEAKERQUANT_TENSORRT_PYTHON, or this one",
    )
    parsed = parser.parse_args()
    with importing():
        from speakerquant.commands.engine_inspection import bench, info

    if parsed.command == "info":
        info(parsed.model)
    else:
        bench(parsed.model, parsed.python)


def main() -> None:
    """Entry point of ``speakerquant-engine``."""
    run_command(_command)
