"""A mask of one column, as ``missing="mask"`` makes it of one column of data, around a plate."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import nn

from experiments.data import as_data
from experiments.evaluation.metrics import evaluate
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.right import right_or_refused

X = np.array([[0.3], [np.nan], [-1.0], [2.0], [np.nan], [0.5], [1.5], [-0.2]])


class Reading(Program):
    """z ~ N(0, 1), x ~ N(z + 1, 1) where it is not missing."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            with poutine.mask(mask=batch.given["mask"]):
                x = dist.Normal(z + self.loc, 1.0).to_event(1)
                return pyro.sample("x", x, obs=batch.x)


class Posterior(Program):
    def forward(self, batch):
        seen = batch.given["mask"]
        loc = torch.where(seen, (batch.x - 1) / 2, 0.0)
        scale = torch.where(seen, math.sqrt(0.5), 1.0)
        with data_plate(batch):
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))


def test_a_mask_that_broadcasts_over_the_rows():
    """[B, 1] on a density [B] is [B, B]: every row would count six times."""
    x = torch.tensor(X)
    log_p = dist.Normal(1.0, math.sqrt(2)).log_prob(x[~x.isnan()]).sum() / len(x)
    data = as_data(X, missing="mask")
    right_or_refused(lambda: evaluate(Reading(), Posterior(), data, 1)["elbo"], log_p, "'x'")
