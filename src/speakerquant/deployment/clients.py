"""What runs ONNX files of speaker networks, and how each wants to be given one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace

from speakerquant.architectures.family import FRONT_ENDS, Family
from speakerquant.architectures.interface import Interface
from speakerquant.architectures.onnx_file.front_end_metadata import front_end_of, metadata_for
from speakerquant.audio.front_end import FrontEnd


class Client(ABC):
    """What runs a file.

    Attributes:
        name: What messages call it.
        front_end_option: Option of the group ``model/front_end`` that is the features it computes, should it
            compute any.
        runtime: Which ONNX Runtime it has, in words, if that is known.
    """

    name: str
    front_end_option: str = ""
    runtime: str = ""

    @abstractmethod
    def computed(self, front_end: FrontEnd) -> FrontEnd:
        """The front end that it computes, as near to the given one as it can be told to come."""

    @abstractmethod
    def interface(self, original: Interface, front_end: FrontEnd, embedding_dim: int) -> Interface:
        """How it asks a network.

        Args:
            original: How the file that the network came as was asked.
            front_end: The network's.
            embedding_dim: Length of its embeddings.
        """


class AnyOnnxRuntime(Client):
    """A program that computes the features itself, and takes a file as it took the original."""

    name = "ONNX Runtime"

    def computed(self, front_end: FrontEnd) -> FrontEnd:
        return front_end

    def interface(self, original: Interface, front_end: FrontEnd, embedding_dim: int) -> Interface:
        return original


class SherpaOnnx(Client):
    """sherpa-onnx's ``SpeakerEmbeddingExtractor``, and all that is made of it.

    Names, layout and keys: sherpa-onnx, ``scripts/3dspeaker/export-onnx.py`` and
    ``csrc/speaker-embedding-extractor-model.cc``, which does not load a file without ``language``.
    """

    name = "sherpa-onnx"
    front_end_option = "sherpa_onnx"
    runtime = "sherpa-onnx 2.0.1 comes with 1.28.2"
    _bands = 80  # csrc/features.h

    def computed(self, front_end: FrontEnd) -> FrontEnd:
        return front_end_of(metadata_for(front_end), self._bands)

    def interface(self, original: Interface, front_end: FrontEnd, embedding_dim: int) -> Interface:
        told = {"language": "unknown", "url": "", "comment": "", **original.metadata}
        metadata = {**told, **metadata_for(front_end), "output_dim": str(embedding_dim)}
        return Interface("x", "embedding", time_last=False, metadata=metadata)


class WeSpeaker(Client):
    """WeSpeaker's runtime (``runtime/core``) and its Python script ``bin/infer_onnx.py``.

    Names and layout: ``bin/export_onnx.py``. Features: ``runtime/core/frontend/fbank.h``. ONNX Runtime:
    ``runtime/core/cmake/onnx.cmake``.
    """

    name = "WeSpeaker's runtime"
    front_end_option = "wespeaker"
    runtime = "WeSpeaker's build takes 1.12.0, unless ONNX_VERSION in its onnx.cmake is raised"

    def computed(self, front_end: FrontEnd) -> FrontEnd:
        rate = front_end.sample_rate
        win_length = rate // 1000 * 25
        return replace(
            FRONT_ENDS[Family.wespeaker],
            sample_rate=rate,
            n_mels=front_end.n_mels,
            n_fft=1 << (win_length - 1).bit_length(),
            win_length=win_length,
            hop_length=rate // 1000 * 10,
            f_max=rate / 2,
        )

    def interface(self, original: Interface, front_end: FrontEnd, embedding_dim: int) -> Interface:
        return Interface("feats", "embs", time_last=False, metadata=original.metadata)


CLIENTS: Mapping[str, Client] = {
    "onnx": AnyOnnxRuntime(),
    "sherpa_onnx": SherpaOnnx(),
    "wespeaker": WeSpeaker(),
}
"""Clients by the name of their format."""
