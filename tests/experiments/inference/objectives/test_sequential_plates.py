"""Sequential plates (``for d in pyro.plate``) around observations of a summed latent class."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.evaluation.metrics import evaluate
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program

C, D, N = 3, 4, 6


class Classes(Program):
    """Latent class analysis: y ~ Categorical, x_d ~ Bernoulli(p_yd)."""

    def __init__(self):
        super().__init__()
        self.logits, self.p = nn.Parameter(torch.randn(C)), nn.Parameter(torch.randn(C, D))

    def forward(self, batch):
        with data_plate(batch):
            prior = dist.Categorical(logits=self.logits)
            y = pyro.sample("y", prior, infer={"enumerate": "parallel"})
            for d in pyro.plate("features", D):
                x = dist.Bernoulli(logits=self.p[y, d])
                pyro.sample(f"x{d}", x, obs=batch.obs(f"x{d}"))

    def evidence(self, x):
        told = dist.Bernoulli(logits=self.p).log_prob(x.unsqueeze(1)).sum(-1)
        return (told + self.logits.log_softmax(-1)).logsumexp(1)


def answers():
    x = (torch.rand(N, D) < 0.5).double()
    return x, {f"x{d}": x[:, d] for d in range(D)}


@pytest.mark.parametrize("name", ["elbo", "elbo_analytic_kl", "iwae"])
def test_the_loss_is_the_evidence(name):
    model, (x, by_site) = Classes(), answers()
    svi = SVI(model, GUIDES["prior"](model), loss=OBJECTIVES[name](2))
    want = model.evidence(x).mean().detach()
    torch.testing.assert_close(-svi.evaluate_loss(Batch.of(by_site)), want)


def test_so_are_the_figures():
    model, (x, by_site) = Classes(), answers()
    found = evaluate(model, GUIDES["prior"](model), by_site)
    assert found["log_evidence"] == pytest.approx(model.evidence(x).mean().item())
