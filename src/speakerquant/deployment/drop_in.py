"""Writes the network of a mask as a file that takes the place of the one which a client runs."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from speakerquant.architectures.interface import Interface
from speakerquant.audio.features import FeatureArray
from speakerquant.audio.front_end import FrontEnd
from speakerquant.deployment.clients import Client
from speakerquant.deployment.mask_graph import MaskGraph
from speakerquant.engine.backends import REFERENCE, engine_builder
from speakerquant.engine.base import Engine
from speakerquant.engine.onnxruntime.client_session import ClientSession
from speakerquant.errors import UserError
from speakerquant.files import atomic_path
from speakerquant.graph.integer_products import compute_in_integers, finds_ranges
from speakerquant.graph.interface import with_interface
from speakerquant.measuring.check import Agreement, embedding_by

_FURTHER_FRAMES = (0, 1, 57, 100, 212)
_MIN_AGREEMENT = 0.999
_FIRST_RUNTIME = {17: "1.12", 21: "1.19", 25: "1.24"}
"""The first ONNX Runtime that runs what this project writes, by the version of the operators in it."""


@dataclass(frozen=True)
class DropIn:
    """A file that was written.

    Attributes:
        interface: How it is asked.
        n_mels: Number of bands of the features.
        embedding_dim: Length of an embedding.
        size_bytes: Size of the file.
        opset: Version of the operators in it.
        first_runtime: The first ONNX Runtime that runs it.
        agreement: Smallest cosine between embeddings by ONNX Runtime with its own settings, as clients have
            them, and those of the mask's network.
        finds_ranges: Whether the range of any input is found over all recordings of a request.
    """

    interface: Interface
    n_mels: int
    embedding_dim: int
    size_bytes: int
    opset: int
    first_runtime: str
    agreement: float
    finds_ranges: bool


def write_drop_in(graph: Path, client: Client, output: Path) -> DropIn:
    """Write the network of a mask as a client takes it, if it then gives the embeddings that were measured.

    Args:
        graph: The ONNX graph that a run of the mask has left.
        client: What is to run the file.
        output: The file; it appears whole, or not at all.

    Raises:
        UserError: ``graph`` is no such file; the client computes other features than the mask was measured
            with; the file would give other embeddings; or it cannot be written, is a folder, or would replace
            ``graph``.
    """
    if output.is_dir():
        raise UserError(f"{output}: a folder; name the file to write, such as {output / 'model.onnx'}")
    if output.exists() and output.samefile(graph):
        raise UserError(
            f"{output}: the run's own graph, which is needed to export it again; name another file"
        )
    mask = MaskGraph.read(graph)
    _check_front_end(client, mask.front_end)
    recordings = _noise(mask)
    with engine_builder(REFERENCE).build(graph) as engine, atomic_path(output) as part:
        embedding_dim = engine.embed(recordings[0][np.newaxis]).shape[1]
        asked = client.interface(mask.original, mask.front_end, embedding_dim)
        interface = replace(asked, metadata={**asked.metadata, **mask.properties})
        model = with_interface(mask.model, interface)
        compute_in_integers(model)
        onnx.save(model, part)
        agreement = _agreement(ClientSession(part), interface, engine, recordings)
        if not agreement.is_enough:
            raise UserError(
                f"{output}: not written: ONNX Runtime with its own settings agrees with the mask's network "
                f"only to {agreement.cosine:.5f}, which agrees with itself under rounding errors to "
                f"{agreement.itself:.5f}"
            )
        size_bytes = part.stat().st_size
    opset = next(each.version for each in model.opset_import if not each.domain)
    return DropIn(
        interface,
        mask.front_end.n_mels,
        embedding_dim,
        size_bytes,
        opset,
        _FIRST_RUNTIME[opset],
        agreement.cosine,
        finds_ranges(model),
    )


def _check_front_end(client: Client, measured: FrontEnd) -> None:
    """Refuse a client whose features are others than those that the mask was measured with."""
    given, computed = asdict(measured), asdict(client.computed(measured))
    different = [name for name, value in given.items() if computed[name] != value]
    if different:
        theirs, ours = (", ".join(f"{name}={each[name]}" for name in different) for each in (computed, given))
        raise UserError(
            f"{client.name} computes features with {theirs}, and the mask was measured with {ours}; measure "
            f"it with those of the client, by model/front_end={client.front_end_option}, and export that run"
        )


def _noise(mask: MaskGraph) -> list[FeatureArray]:
    """Recordings ``[n_mels, T]`` of several lengths, from the fewest frames on."""
    generator = np.random.default_rng(0)
    return [
        generator.standard_normal((mask.front_end.n_mels, mask.min_frames + further), np.float32)
        for further in _FURTHER_FRAMES
    ]


def _agreement(
    session: ClientSession, interface: Interface, engine: Engine, recordings: list[FeatureArray]
) -> Agreement:
    """How nearly a client's session on the file agrees with an engine of the mask's network."""

    def asked(recording: FeatureArray) -> FeatureArray:
        arranged = recording if interface.time_last else recording.T
        embedding: FeatureArray = session.embed(np.ascontiguousarray(arranged[np.newaxis]))[0]
        return embedding

    return Agreement.of(
        lambda features: np.stack([asked(each) for each in features]),
        embedding_by(engine),
        recordings,
        _MIN_AGREEMENT,
    )
