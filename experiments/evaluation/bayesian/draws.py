"""Summaries of draws of Bayesian PPCA's parameters that do not depend on the rotation of W."""

from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor

from experiments.evaluation.bayesian.arviz_adapter import rhat
from experiments.evaluation.shared_draws import CACHED_NUMBERS
from ppl_models.batch import Batch
from ppl_models.bayesian_ppca import BayesianPPCA

REPLICATED = 25
"""Number of replicated data sets per chain."""


class Posterior(NamedTuple):
    """Draws ``[chains, draws, ...]`` of the parameters and of derived quantities.

    ``log_likelihood`` is log p(x_n | W, mu, sigma) of every datum, z integrated out [nats].
    """

    W: Tensor
    mu: Tensor
    sigma: Tensor
    s: Tensor
    log_likelihood: Tensor

    @property
    def low_rank(self) -> Tensor:
        """W W⊤, ``[chains, draws, D, D]``."""
        return self.W @ self.W.mT

    @property
    def log_p(self) -> Tensor:
        """log p(x | W, mu, sigma) of all data, ``[chains, draws]`` [nats]."""
        return self.log_likelihood.sum(-1)

    @property
    def norms(self) -> Tensor:
        """Column norms of W, the largest first, ``[chains, draws, M]``."""
        return self.W.norm(dim=-2).sort(-1, descending=True).values


@torch.no_grad()
def draws_of_guide(guide: Any, batch: Batch, draws: int) -> dict[str, Tensor]:
    """Draws of the latents as one chain, ``[1, draws, ...]``."""
    with pyro.validation_enabled(False):
        found = [guide(batch) for _ in range(draws)]
    return {name: torch.stack([one[name] for one in found])[None] for name in found[0]}


@torch.no_grad()
def posterior(model: BayesianPPCA, latents: dict[str, Tensor], x: Tensor) -> Posterior:
    """The posterior from draws of the latents ``[chains, draws, ...]`` and the data ``[N, D]``."""
    chains, draws = latents["sigma"].shape
    flat = {name: value.flatten(0, 1) for name, value in latents.items() if name != "z"}
    W = _loadings(model, flat, x)
    rows = max(1, CACHED_NUMBERS // (x.numel() * 2))
    parameters = W[:, None], flat["mu"][:, None], flat["sigma"][:, None]
    chunks = zip(*(values.split(rows) for values in parameters), strict=True)
    log_likelihood = torch.cat([model.evidence(*chunk).log_prob(x) for chunk in chunks])
    shaped = (W, flat["mu"], flat["sigma"], flat["s"], log_likelihood)
    return Posterior(*(value.reshape(chains, draws, *value.shape[1:]) for value in shaped))


def _loadings(model: BayesianPPCA, latents: dict[str, Tensor], x: Tensor) -> Tensor:
    """W of every draw ``[K, D, M]``: the model's own site, at these latents."""
    number = len(latents["sigma"])
    columns = {  # one draw in each row of a dimension before the data's
        name: value.reshape(number, 1, *value.shape[1:]) for name, value in latents.items()
    }
    data = poutine.condition(poutine.block(model, hide=["z", "x"]), data=columns)
    with pyro.validation_enabled(False), pyro.plate("draws", number, dim=-2):
        trace = poutine.trace(data).get_trace(Batch.of(x[:1]))
    return trace.nodes["W"]["value"].squeeze(1)


@torch.no_grad()
def predictive(
    model: BayesianPPCA, found: Posterior, size: int, draws: int = REPLICATED
) -> Tensor:
    """Data sets ``[chains, draws, size, D]`` from draws of the posterior, evenly spaced."""
    kept = torch.linspace(0, found.sigma.shape[1] - 1, draws).long()
    evidence = model.evidence(found.W[:, kept], found.mu[:, kept], found.sigma[:, kept])
    return evidence.sample((size,)).movedim(0, -2)


def worst_rhat(found: Posterior) -> dict[str, float]:
    """The largest R-hat over entries, of W W⊤, sigma and log p; needs four draws."""
    values = {"W W⊤": found.low_rank, "sigma": found.sigma, "log p": found.log_p}
    return {name: float(rhat(value.cpu().numpy()).max()) for name, value in values.items()}


def distance(found: Posterior, reference: Posterior) -> float:
    """The largest difference of E[W W⊤] over entries, in the reference's posterior sds."""
    theirs = reference.low_rank.flatten(0, 1)
    difference = found.low_rank.flatten(0, 1).mean(0) - theirs.mean(0)
    return float((difference.abs() / theirs.std(0)).max())
