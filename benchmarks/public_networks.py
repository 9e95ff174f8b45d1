"""Writes public speaker networks with random weights as ONNX files, for ``benchmarks/onnx_networks.py``.

    python benchmarks/public_networks.py networks/
    python benchmarks/onnx_networks.py networks/*.onnx

Eleven networks of the package wespeaker-unofficial 0.0.2, whose wheel pip downloads without its dependencies,
and of which the modules of networks alone are imported; and one of TitaNet's kind.
"""

import argparse
import importlib
import importlib.machinery
import importlib.util
import logging
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

PACKAGE = "wespeaker-unofficial==0.0.2"
NETWORKS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "ecapa": ("ecapa_tdnn", "ECAPA_TDNN_c512", {"feat_dim": 80, "embed_dim": 192}),
    "xvec": ("tdnn", "XVEC", {"feat_dim": 80, "embed_dim": 512}),
    "resnet34": ("resnet", "ResNet34", {"feat_dim": 80, "embed_dim": 256, "two_emb_layer": False}),
    "campplus": ("campplus", "CAMPPlus", {"feat_dim": 80, "embed_dim": 512}),
    "res2net": ("res2net", "Res2Net34_Base", {"feat_dim": 80, "embed_dim": 256}),
    "eres2net": ("eres2net", "ERes2Net34_Base", {"feat_dim": 80, "embed_dim": 512}),
    "redimnet": ("redimnet", "ReDimNetB2", {"feat_dim": 72, "embed_dim": 192}),
    "redimnet2": ("redimnet2", "ReDimNet2B2", {"feat_dim": 72, "embed_dim": 192}),
    "simam": ("samresnet", "SimAM_ResNet34_ASP", {"in_planes": 64, "embed_dim": 256}),
    "gemini": ("gemini_dfresnet", "Gemini_DF_ResNet60", {"feat_dim": 80, "embed_dim": 256}),
    "repvgg": ("repvgg", "REPVGG_TINY_A0", {"feat_dim": 80, "embed_dim": 256}),
}
"""Module, function and settings of each network by name."""

BANDS_FIRST = ("redimnet2",)
"""Those that take features ``[B, bands, T]``; the others take ``[B, T, bands]``."""


class SeparableBlock(nn.Module):
    """Depthwise and pointwise convolutions and a gate from the mean over time, as TitaNet's blocks have."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False),
                    nn.Conv1d(channels, channels, 1, bias=False),
                    nn.BatchNorm1d(channels),
                    nn.ReLU(),
                )
                for _ in range(3)
            )
        )
        self.gate = nn.Sequential(
            nn.Linear(channels, channels // 8), nn.ReLU(), nn.Linear(channels // 8, channels)
        )

    def forward(self, frames: Tensor) -> Tensor:
        hidden = self.convolutions(frames)
        return torch.relu(frames + hidden * self.gate(hidden.mean(2)).sigmoid().unsqueeze(2))


class Separable(nn.Module):
    """A network of TitaNet's kind (Koluguri et al., ICASSP 2022), ``[B, 80, T]`` to ``[B, 192]``."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.prologue = nn.Sequential(
            nn.Conv1d(80, channels, 3, padding=1), nn.BatchNorm1d(channels), nn.ReLU()
        )
        self.blocks = nn.ModuleList([SeparableBlock(channels, kernel) for kernel in (7, 11, 15)])
        self.epilogue = nn.Sequential(nn.Conv1d(channels, 1536, 1), nn.BatchNorm1d(1536), nn.ReLU())
        self.embedding = nn.Linear(2 * 1536, 192)

    def forward(self, features: Tensor) -> Tensor:
        frames = self.prologue(features)
        for block in self.blocks:
            frames = block(frames)
        frames = self.epilogue(frames)
        embeddings: Tensor = self.embedding(torch.cat([frames.mean(2), frames.std(2)], 1))
        return embeddings


class LastOutput(nn.Module):
    """A network whose embedding is the last of what it returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        output = self.network(features)
        embeddings: Tensor = output[-1] if isinstance(output, tuple) else output
        return embeddings


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as wheel:
        _import_from_wheel(Path(wheel))
        for name, (module, function, settings) in NETWORKS.items():
            torch.manual_seed(0)
            network = getattr(importlib.import_module(f"wespeaker.models.{module}"), function)(**settings)
            write(network, folder / f"{name}.onnx", settings.get("feat_dim", 80), name in BANDS_FIRST)
    torch.manual_seed(0)
    write(Separable(), folder / "titanet_like.onnx", 80, bands_first=True)


def write(network: nn.Module, path: Path, bands: int, bands_first: bool) -> None:
    """Write a network whose normalisations have statistics as those of a trained one."""
    for layer in network.modules():
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    shape = (2, bands, 200) if bands_first else (2, 200, bands)
    torch.onnx.export(
        LastOutput(network).eval(),
        (torch.randn(shape),),
        path,
        input_names=["feats"],
        output_names=["embs"],
        dynamic_axes={"feats": {0: "B", 2 if bands_first else 1: "T"}, "embs": {0: "B"}},
        opset_version=17,
        dynamo=False,
    )
    print(f"written to {path}", flush=True)


def _import_from_wheel(folder: Path) -> None:
    """Make the package's modules known without its own ``__init__``, which needs more than networks do."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
        PACKAGE,
    ]
    subprocess.run(command, check=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    for name in ("wespeaker", "wespeaker.models", "wespeaker.frontend"):
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = importlib.util.module_from_spec(spec)


if __name__ == "__main__":
    main()
