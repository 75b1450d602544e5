"""BayesianPPCA(marginal=False) with particles of its global latents in a plate outside."""

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine

from ppl_models import Batch
from ppl_models.bayesian_ppca import BayesianPPCA


def values(K, B):
    return {
        "sigma": torch.rand(K, 1) + 0.5,
        "mu": torch.randn(K, 1, 4),
        "s": torch.rand(K, 1, 2) + 0.1,
        "V": torch.randn(K, 1, 4, 2),
        "z": torch.randn(K, B, 2),
    }


def run(latents, batch):
    model = poutine.condition(BayesianPPCA(4, 2, marginal=False), data=latents)
    with pyro.plate("particles", len(latents["sigma"]), dim=-2):
        return poutine.trace(model).get_trace(batch).nodes["x"]


def loc_of(v):
    return ((v["V"] * v["s"].unsqueeze(-2)) @ v["z"].unsqueeze(-1)).squeeze(-1) + v["mu"]


def test_every_particle_has_its_own_sigma():
    v, x = values(3, 5), torch.randn(5, 4)
    expected = torch.stack(
        [dist.Normal(loc_of(v)[k], v["sigma"][k, 0]).log_prob(x).sum(-1) for k in range(3)]
    )
    torch.testing.assert_close(run(v, Batch.of(x))["fn"].log_prob(x), expected)


def test_as_many_particles_as_rows_are_not_taken_for_rows():
    v = values(2, 2)
    v["sigma"] = torch.tensor([[1e-6], [10.0]])
    away = (run(v, Batch.draw(2))["value"] - loc_of(v)).abs()
    assert away[0].max() < 1e-4  # both rows of the first particle
    assert away[1].amax(-1).min() > 1e-2
