"""miselbo draws equally often, and Gaussians, from every component: right for no other mixture."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.linear_pair import D, Linear, X


class Mixed(Program):
    def __init__(self, logits, family):
        super().__init__()
        self.logits, self.family = nn.Parameter(torch.tensor(logits)), family

    def q(self, x):
        loc = torch.stack([(x - 1) / 2, (x - 1) / 2 + 3], -2)
        shares = dist.Categorical(logits=self.logits.expand(len(x), 2))
        return dist.MixtureSameFamily(shares, self.family(loc, 0.7).to_event(1))

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", self.q(batch.x))


@pytest.mark.parametrize(
    ("logits", "family"),
    [([0.0, 0.0], dist.Normal), ([2.0, 0.0], dist.Normal), ([0.0, 0.0], dist.Laplace)],
)
@torch.no_grad()
def test_a_mixture_has_its_own_elbo(logits, family):
    model, guide = Linear(), Mixed(logits, family)
    q = guide.q(X)
    z = q.sample((20_000,))
    log_p = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z + 1, 1.0).log_prob(X)
    want = (q.log_prob(z) - log_p.sum(-1)).mean()
    svi = SVI(model, guide, loss=OBJECTIVES["miselbo"](2000))
    if logits == [0.0, 0.0] and family is dist.Normal:
        model, guide = Linear(), Even()
        svi = SVI(model, guide, loss=OBJECTIVES["miselbo"](2000))
        assert svi.evaluate_loss(Batch.of(X)).item() == pytest.approx(want.item(), abs=0.1)
        return
    with pytest.raises(ValueError, match="miselbo"):
        svi.evaluate_loss(Batch.of(X))


class Even(Mixed):
    """Trained locations, equal weights."""

    def __init__(self):
        super().__init__([0.0, 0.0], dist.Normal)
        self.logits.requires_grad_(False)
        self.shift = nn.Parameter(torch.zeros(()))

    def q(self, x):
        return super().q(x + self.shift)


def test_an_even_mixture_is_compiled(as_traced):
    svi = SVI(Linear(), Even(), loss=OBJECTIVES["miselbo"](), compile=True)
    svi.step(Batch.of(X))
    assert svi.compiled.reasons == []


class Beside(Linear):
    """A second latent, which nothing depends on."""

    def prior(self):
        pyro.sample("w", dist.Normal(torch.zeros(D), 1.0).to_event(1))
        return super().prior()


class OfBoth(Even):
    def forward(self, batch):
        with data_plate(batch):
            for name in ("w", "z"):
                pyro.sample(name, self.q(batch.x))


def test_two_latents_are_refused_in_one_line():
    svi = SVI(Beside(), OfBoth(), loss=OBJECTIVES["miselbo"]())
    with pytest.raises(ValueError, match="miselbo takes one latent; OfBoth samples w, z") as found:
        svi.step(Batch.of(X))
    assert "\n" not in str(found.value)


class Penalised(Even):
    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", self.q(batch.x))
            penalty = self.shift.square().expand(len(batch.index))
            pyro.factor("penalty", penalty, has_rsample=False)


def test_a_factor_in_the_guide_is_refused():
    svi = SVI(Linear(), Penalised(), loss=OBJECTIVES["miselbo"]())
    with pytest.raises(ValueError, match="miselbo takes no factor in a guide, and Penalised has"):
        svi.step(Batch.of(X))
