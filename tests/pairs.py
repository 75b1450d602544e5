"""Small pairs of every allowed kind, for laws that hold for all of them."""

from typing import Any

import torch
from torch import Tensor, nn

from guides import GUIDES, PAIRS, Guide
from ppl_models import MODELS, Batch

SIZE, DATA_DIM, LATENT_DIM = 12, 7, 3

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "amortized": [
        {"encoder": encoder, "covariance": covariance, "hidden_dims": (5,)}
        for encoder in ("linear", "mlp")
        for covariance in ("diagonal", "full")
    ]
}

ALLOWED = [
    (model, guide, options)
    for model, guides in PAIRS.items()
    for guide in guides
    for options in VARIANTS.get(guide, [{}])
]


def name_of(pair: tuple[str, str, dict]) -> str:
    return "-".join([pair[0], pair[1], *map(str, pair[2].values())])


def build(pair: tuple[str, str, dict]) -> tuple[nn.Module, Guide]:
    model_name, guide_name, options = pair
    shape = {"ppca": {"data_dim": DATA_DIM}, "vae": {"data_shape": (DATA_DIM,)}}[model_name]
    model = MODELS[model_name](**shape, latent_dim=LATENT_DIM)
    return model, GUIDES[guide_name](model, **options).for_data(SIZE)


def observations(count: int = SIZE) -> Tensor:
    return torch.randn(count, DATA_DIM)


def minibatch() -> Batch:
    """Five of twelve rows, so that the plate rescales by 12 / 5."""
    index = torch.tensor([1, 4, 5, 8, 11])
    return Batch(observations()[index], index, SIZE)
