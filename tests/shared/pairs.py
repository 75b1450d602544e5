"""Small pairs of every allowed kind, for laws that hold for all of them."""

from typing import Any

import torch
from torch import Tensor, nn

from experiments.inference.objectives import OBJECTIVES, Objective
from guides import GUIDES, PAIRS, Guide
from ppl_models import MODELS, Batch

SIZE, DATA_DIM, LATENT_DIM = 12, 7, 3

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "amortized": [
        {"encoder": encoder, "covariance": covariance, "hidden_dims": (5,)}
        for encoder in ("linear", "mlp")
        for covariance in ("diagonal", "full")
    ],
    "flow": [
        {"transform": transform, "hidden_dims": (5,), "context": 3, "width": 6}
        for transform in ("autoregressive", "coupling")
    ],
    "semi_amortized": [{"hidden_dims": (5,), "steps": 2, "through": t} for t in (False, True)],
    "mixture": [{"components": 3, "hidden_dims": (5,)}],
    "top_down": [
        {"cells_per_block": 1, **options}
        for options in ({}, {"residual": False, "channels": 6}, {"flows": 1})
    ],
    "top_down_mixture": [{"components": 3, "cells_per_block": 1}],
    "bottom_up": [{"cells_per_block": 1}],
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
    sizes = {
        "ppca": {"data_dim": DATA_DIM, "latent_dim": LATENT_DIM},
        "vae": {"data_shape": (DATA_DIM,), "latent_dim": LATENT_DIM},
        "nvae": {
            "data_shape": (1, 8, 8),
            "groups": (1, 2),
            "latents": 2,
            "channels": 4,
            "blocks": 1,
            "cells_per_block": 1,
        },
    }[model_name]
    model = MODELS[model_name](**sizes)
    return model, GUIDES[guide_name](model, **options).for_data(SIZE)


def objective_of(pair: tuple[str, str, dict]) -> Objective:
    """What a pair may be trained with: the ELBO, unless its guide has an objective of its own."""
    return OBJECTIVES["elbo" if pair[1] == "prior" else GUIDES[pair[1]].objective]()


def observations(pair: tuple[str, str, dict], count: int = SIZE) -> Tensor:
    if pair[0] == "nvae":
        return torch.rand(count, 1, 8, 8).round()
    return torch.randn(count, DATA_DIM)


def minibatch(pair: tuple[str, str, dict]) -> Batch:
    """Five of twelve rows, so that the plate rescales by 12 / 5."""
    index = torch.tensor([1, 4, 5, 8, 11])
    return Batch(observations(pair)[index], index, SIZE)
