"""AAM-softmax against its definition."""

import math

import pytest
import torch
import torch.nn.functional as F

from speakerquant.training.loss import AamSoftmax


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5])
def test_loss_is_the_equation(margin: float) -> None:
    torch.manual_seed(0)
    head = AamSoftmax(embedding_dim=16, num_classes=10, scale=30.0)
    head.margin = margin
    embeddings, labels = torch.randn(32, 16), torch.randint(10, (32,))
    cosine = F.normalize(embeddings) @ F.normalize(head.weight).T
    angle = cosine.acos()
    angle[torch.arange(32), labels] += margin
    beyond = angle[torch.arange(32), labels] > math.pi
    assert not beyond.any()
    expected = F.cross_entropy(30.0 * angle.cos(), labels)
    torch.testing.assert_close(head(embeddings, labels), expected)


def test_margin_never_rewards_the_opposite_direction() -> None:
    head = AamSoftmax(embedding_dim=2, num_classes=2, scale=10.0)
    head.margin = 0.5
    head.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    angles = torch.linspace(0.0, math.pi, 50)
    losses = torch.stack([head(torch.tensor([[a.cos(), -a.sin()]]), torch.tensor([0])) for a in angles])
    opposite = angles > math.pi / 2
    assert (losses[opposite].diff() > -1e-4).all()
