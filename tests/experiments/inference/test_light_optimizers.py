"""Optimizers that do not load torch's compiler do what torch's own do."""

import pytest
import torch
from torch import nn

from experiments.inference.optim.light import Adam, Adamax


@pytest.mark.parametrize(
    ("own", "of_torch", "options"),
    [
        (Adam, torch.optim.Adam, {"fused": True}),
        (Adam, torch.optim.Adam, {"fused": False}),
        (Adamax, torch.optim.Adamax, {"foreach": True}),
    ],
)
def test_their_numbers_are_those_of_torchs(own, of_torch, options):
    start = torch.randn(5, 3)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    kinds = (ours, own), (theirs, of_torch)
    optimizers = [kind([p], lr=0.1, weight_decay=0.01, **options) for p, kind in kinds]
    for _ in range(5):
        gradient = torch.randn(5, 3)
        for optimizer, parameter in zip(optimizers, (ours, theirs), strict=True):
            optimizer.zero_grad()
            parameter.grad = gradient.clone()
            optimizer.step()
    assert torch.equal(ours, theirs)
    assert not ours.grad.requires_grad
    states = [optimizer.state_dict() for optimizer in optimizers]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    optimizers[0].load_state_dict(states[1])
    torch.testing.assert_close(optimizers[0].state_dict()["state"], states[1]["state"])
