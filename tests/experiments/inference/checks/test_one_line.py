"""Programs of papers that end in an error of torch or Python: right, or refused in one line."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.nn import functional as F

from experiments.evaluation.metrics import evaluate
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import Batch, describe
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.linear_pair import D, Encoder, Linear, X

C, SUM = 3, {"enumerate": "parallel"}


class M2(Program):
    """Kingma et al. (2014): the decoder sees z and y side by side."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(D + C, D)

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            y = pyro.sample("y", dist.OneHotCategorical(torch.ones(C)), obs=batch.given.get("y"))
            loc = self.decoder(torch.cat([z, y], -1))
            return pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=batch.x)


class OfM2(Program):
    def __init__(self):
        super().__init__()
        self.y, self.z = nn.Linear(D, C), nn.Linear(D + C, D)

    def forward(self, batch):
        with data_plate(batch):
            q = dist.OneHotCategorical(logits=self.y(batch.x))
            y = pyro.sample("y", q, infer=SUM)
            loc = self.z(torch.cat([batch.x, y], -1))
            pyro.sample("z", dist.Normal(loc, 0.6).to_event(1))


def test_a_guide_that_joins_x_and_a_summed_y():
    svi = SVI(M2(), OfM2(), loss=OBJECTIVES["elbo_enum"]())
    with pytest.raises(ValueError, match="does not take all values of a summed latent at once"):
        svi.step(Batch.of(X))


class ProdLDA(Program):
    """As in Pyro's tutorial: the number of words is read off the documents."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(D, 6)

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            share = self.decoder(F.softmax(z, -1)).softmax(-1)
            words = int(batch.x.sum(-1).max())
            return pyro.sample("x", dist.Multinomial(words, share), obs=batch.x)


class OfProdLDA(Program):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(6, D)

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", dist.Normal(self.encoder(batch.x), 0.5).to_event(1))


@pytest.mark.parametrize(
    "use", [lambda m, x: GUIDES["amortized"](m), lambda m, x: evaluate(m, OfProdLDA(), x, 1)]
)
def test_a_model_that_cannot_be_drawn_from(use):
    x = dist.Multinomial(20, torch.ones(6)).sample((8,))
    with pytest.raises(ValueError, match=r"batch\.x"):
        use(ProdLDA(), x)


class Weighted(Program):
    """A mixture of weighted rows, such as a survey's or a coreset's."""

    def __init__(self):
        super().__init__()
        self.m = nn.Parameter(torch.randn(C, D))

    def forward(self, batch):
        with data_plate(batch), poutine.scale(scale=batch.given["w"]):
            y = pyro.sample("y", dist.Categorical(torch.ones(C) / C), infer=SUM)
            return pyro.sample("x", dist.Normal(self.m[y], 1.0).to_event(1), obs=batch.x)


def test_weights_of_rows_beside_a_summed_latent():
    model, w = Weighted(), 0.5 + torch.rand(len(X))
    log_p = dist.Normal(model.m, 1.0).to_event(1).log_prob(X.unsqueeze(1)).logsumexp(1)
    want = -(w * (log_p - math.log(C))).sum().detach() / len(X)
    svi = SVI(model, GUIDES["prior"](model), loss=OBJECTIVES["elbo"]())
    torch.testing.assert_close(svi.evaluate_loss(Batch.of(X, {"w": w})), want)


class Column(Linear):
    """One column of the data, from the right."""

    def forward(self, batch):
        with data_plate(batch):
            z = self.prior()
            x = None if batch.x is None else batch.x[..., 0]
            return pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)


def test_a_column_is_no_name_of_a_site():
    """Refused as "site 'x' observes batch.x['(Ellipsis, 0)']", which no name can mend."""
    assert describe(Column()).observed == {"x": torch.Size([])}
    assert SVI(Column(), Encoder()).step(Batch.of(X)).isfinite()
