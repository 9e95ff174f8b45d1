"""``speakerquant-export``: the network of a run's mask as a file that takes the place of the one in use."""

import argparse
from pathlib import Path

from speakerquant.commands.console_script import RUN_NAMES, importing, run_command
from speakerquant.deployment.clients import CLIENTS


def export(run: str, output: Path, client_name: str) -> None:
    """Write the network of a run's mask for a client, and print what it needs and how well it agrees.

    Args:
        run: Its name (:data:`RUN_NAMES`).
        output: File to write.
        client_name: Name of the client.

    Raises:
        UserError: there is no such run, the client computes other features than the run, or the file would
            give other embeddings.
    """
    with importing():
        from speakerquant.commands.engine_files import found_graph
        from speakerquant.deployment.drop_in import write_drop_in

    client = CLIENTS[client_name]
    with found_graph(run) as graph:
        written = write_drop_in(graph, client, output)
    interface = written.interface
    axes = f"batch, {written.n_mels}, time" if interface.time_last else f"batch, time, {written.n_mels}"
    print(f"{output}: {written.size_bytes / 1e6:.3f} MB")
    print(f"{interface.input} [{axes}] -> {interface.output} [batch, {written.embedding_dim}]")
    needs = f"needs ONNX Runtime {written.first_runtime} or newer (opset {written.opset})"
    print("; ".join(filter(None, (needs, client.runtime))))
    if written.finds_ranges:
        print("give it one recording a request: in a batch they share ranges, which changes embeddings")
    print(f"agrees with the mask's network: cosine {written.agreement:.5f}")


def _command() -> None:
    parser = argparse.ArgumentParser(prog="speakerquant-export", description=__doc__)
    parser.add_argument("run", help=RUN_NAMES)
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument(
        "--format",
        choices=CLIENTS,
        default="onnx",
        help="who takes the file: sherpa_onnx, wespeaker, or onnx (default), with names, layout and metadata "
        "of the file that the network came as",
    )
    parsed = parser.parse_args()
    export(parsed.run, parsed.output, parsed.format)


def main() -> None:
    """Entry point of ``speakerquant-export``."""
    run_command(_command)
