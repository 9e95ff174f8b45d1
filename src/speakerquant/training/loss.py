"""Additive angular margin softmax, the training loss of speaker embeddings."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AamSoftmax(nn.Module):
    """The training head: computes the mean loss from embeddings ``[B, dim]`` and speaker labels ``[B]``.

    Deng et al.: "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, equation 3.
    """

    def __init__(self, embedding_dim: int, num_classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.margin = 0.0
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.xavier_normal_(self.weight)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):  # angles need FP32
            return self._loss(embeddings.float(), labels)

    def _loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine = F.linear(F.normalize(embeddings), F.normalize(self.weight))
        target = cosine.gather(1, labels[:, None])
        sine = (1.0 - target.square()).clamp(min=0.0).sqrt()
        with_margin = target * math.cos(self.margin) - sine * math.sin(self.margin)
        # Beyond pi - margin the cosine would rise again: go on linearly instead.
        threshold = math.cos(math.pi - self.margin)
        fallback = target - math.sin(self.margin) * self.margin
        with_margin = torch.where(target > threshold, with_margin, fallback)
        return F.cross_entropy(self.scale * cosine.scatter(1, labels[:, None], with_margin), labels)
