"""The start of chains and guides of Bayesian PPCA: the maximum-likelihood solution."""

import torch
from torch import Tensor

from ppl_models.bayesian_ppca import BayesianPPCA
from ppl_models.ppca import PPCA

LEAST = 1e-2
"""Smallest initial scale and diagonal entry of the triangle."""


@torch.no_grad()
def at_maximum_likelihood(model: BayesianPPCA, x: Tensor) -> dict[str, Tensor]:
    """Values of the model's sites at the maximum-likelihood solution, in the model's coordinates.

    From other starts the triangle can trap a chain or a guide: its diagonal is positive, so a
    column with the wrong sign would have to pass through zero.

    Args:
        model: p.
        x: the data ``[N, D]``.
    """
    ppca = PPCA.maximum_likelihood(x, model.latent_dim)
    W = ppca.W
    if model.identified:
        L = torch.linalg.qr(W.mT).R.mT  # W = L Q'
        W = L * L.diagonal().sign()
    s = (W.norm(dim=0) / len(W) ** 0.5).clamp(min=LEAST)
    V = W / s
    sites = {"sigma": ppca.sigma, "mu": ppca.mu, "s": s}
    if not model.identified:
        return sites | {"V": V}
    row, column = torch.tril_indices(V.shape[0], V.shape[1], -1)
    return sites | {"V_diagonal": V.diagonal().clamp(min=LEAST), "V_below": V[row, column]}
