"""Summed latents under masks, in inner plates, and in batches whose rows are mixed."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from experiments.evaluation.bounds import reconstruct
from experiments.inference.objectives import ELBO
from guides import GUIDES
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from ppl_models.sites import describe
from tests.shared.linear_pair import SOME, D

C, T = 3, 4
SUM = {"enumerate": "parallel"}


class Lengths(Program):
    """A hidden Markov model whose padding is masked by ``.mask`` on the distributions."""

    def __init__(self):
        super().__init__()
        self.A, self.m = nn.Parameter(torch.randn(C, C)), nn.Parameter(torch.randn(C))

    def forward(self, batch):
        y = 0
        with data_plate(batch):
            for t in pyro.markov(range(T)):
                seen = batch.given["seen"][:, t]
                prior = dist.Categorical(logits=self.A[y]).mask(seen)
                y = pyro.sample(f"y{t}", prior, infer=SUM)
                name = "x" if t == T - 1 else f"x{t}"
                pyro.sample(name, dist.Normal(self.m[y], 0.5).mask(seen), obs=batch.x[:, t])


def test_a_masked_summed_latent_sums_to_one():
    model, x = Lengths(), torch.randn(5, T)
    lengths = torch.tensor([1, 2, 3, 4, 2])
    seen = torch.arange(T) < lengths.unsqueeze(-1)
    want = 0.0
    for row in range(5):
        forward = model.A[0].log_softmax(-1)
        for t in range(int(lengths[row])):
            if t:
                forward = (forward.unsqueeze(1) + model.A.log_softmax(-1)).logsumexp(0)
            forward = forward + dist.Normal(model.m, 0.5).log_prob(x[row, t])
        want = want + forward.logsumexp(0)
    batch = Batch.of(x, {"seen": seen})
    found = -ELBO().differentiable_loss(model, GUIDES["prior"](model), batch)
    torch.testing.assert_close(found, want)  # found is larger by 8 log 3


C, P, N = 3, 4, 6


class Profiles(Program):
    """A latent class and P measurements in an inner plate, some of them missing."""

    def __init__(self):
        super().__init__()
        self.m = nn.Parameter(2 * torch.randn(C, P) + 5)

    def forward(self, batch):
        parts = torch.arange(P).unsqueeze(-1)
        with data_plate(batch):
            prior = dist.Categorical(torch.ones(C) / C)
            y = pyro.sample("y", prior, infer={"enumerate": "parallel"})
            seen, x = batch.given["seen"].T, None if batch.x is None else batch.x.T
            with pyro.plate("parts", P, dim=-2), poutine.mask(mask=seen):
                return pyro.sample("x", dist.Normal(self.m[y, parts], 1.0), obs=x)


def test_a_missing_measurement_is_imputed_by_the_posterior_of_the_class():
    model = Profiles()
    x = torch.randn(N, P) + 5
    seen = torch.ones(N, P, dtype=torch.bool)
    seen[:, 1] = False
    seen[2] = False  # nothing of this row
    batch = Batch.of(x, {"seen": seen})
    describe(model, batch)
    told = dist.Normal(model.m, 1.0).log_prob(x.unsqueeze(1)) * seen.unsqueeze(1)
    want = told.sum(-1).softmax(-1) @ model.m
    found = reconstruct(model, GUIDES["prior"](model), batch)
    torch.testing.assert_close(found, want.detach())


class Standardised(Program):
    """A mixture of the rows less the mean of the batch."""

    def __init__(self):
        super().__init__()
        self.m = nn.Parameter(torch.randn(3, D))

    def forward(self, batch):
        with data_plate(batch):
            prior = dist.Categorical(torch.ones(3) / 3)
            y = pyro.sample("y", prior, infer={"enumerate": "parallel"})
            loc = self.m[y] + (0.0 if batch.x is None else batch.x.mean(0))
            return pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=batch.x)


def test_rows_that_are_mixed_are_refused_beside_a_summed_latent_too():
    model = Standardised()
    with pytest.raises(ValueError, match="mixes the rows of a batch"):
        ELBO().loss(model, GUIDES["prior"](model), SOME)
