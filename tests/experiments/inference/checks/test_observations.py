"""Values that a model has no density for are refused; angles and numbers of words are not."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from experiments.data import as_data
from experiments.errors import UsageError
from experiments.inference.checks.observations import check_observations
from ppl_models.batch import data_plate
from ppl_models.program import Program


class Observed(Program):
    """One latent, and an observation of any kind."""

    def likelihood(self, z, batch):
        raise NotImplementedError

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            return pyro.sample("x", self.likelihood(z, batch), obs=batch.x)


class Angles(Observed):
    def likelihood(self, z, batch):
        return dist.VonMises(z.unsqueeze(-1).expand(-1, 2), 2.0).to_event(1)


class Words(Observed):
    """As ProdLDA counts them: the longest document of the batch."""

    def likelihood(self, z, batch):
        number = 5 if batch.x is None else int(batch.x.sum(-1).max())
        return dist.Multinomial(number, torch.ones(len(batch.index), 3))


class Waits(Observed):
    def likelihood(self, z, batch):
        return dist.Exponential(torch.ones(len(batch.index), 2)).to_event(1)


def looked_at(model, x):
    check_observations(model, as_data(x).like(model))


def test_angles_may_lie_on_any_turn():
    looked_at(Angles(), torch.rand(6, 2) * 2 * math.pi)


def test_a_support_that_is_read_off_the_batch_grows_with_it():
    looked_at(Words(), torch.tensor([[1.0, 1, 0], [2, 0, 1], [9, 9, 9], [1, 0, 0]]))


@pytest.mark.parametrize("row", [0, 1, 5])
def test_a_value_without_a_density_is_refused_in_any_row(row):
    x = torch.rand(6, 2)
    looked_at(Waits(), x)
    x[row, 1] = -1.0
    with pytest.raises(UsageError, match=rf"row {row} of the train data .* Exponential"):
        looked_at(Waits(), x)
