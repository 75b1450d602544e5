"""Guides and models of a user's own, as tests find them in the working directory."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from guides import Guide
from guides.latents import vector_latent
from ppl_models import Program, data_plate


class Encoder(Guide):
    """A Gaussian from a linear map.

    Args:
        model: p.
        width: of a hidden layer.
    """

    def __init__(self, model, width: int = 8):
        super().__init__(model)
        self.site, self.coordinates = vector_latent(model, "Encoder")
        outputs = 2 * self.coordinates.shape[0]
        self.net = nn.Sequential(nn.Linear(self.context_dim, width), nn.Linear(width, outputs))

    def features(self, batch):
        return (self.net(self.context(batch)),)

    def forward(self, batch):
        loc, log_scale = self.seen(batch)[0].chunk(2, -1)
        q = self.coordinates.push(dist.Normal(loc, log_scale.exp()).to_event(1))
        with data_plate(batch):
            pyro.sample(self.site, q)


class Plain(nn.Module):
    def __init__(self, ppca):
        super().__init__()
        self.net = nn.Linear(64, 2 * ppca.W.shape[1])

    def forward(self, batch):
        loc, log_scale = self.net(batch.flat()).chunk(2, -1)
        with data_plate(batch):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


class Holds(Plain):
    def __init__(self, model):
        super().__init__(model)
        self.p = model


class NoModel(nn.Module):
    def __init__(self, width: int = 3):
        super().__init__()


class Breaks(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.net = nn.Linear(model.nothing, 3)


class NoDefault(nn.Module):
    def __init__(self, model, width):
        super().__init__()


class NoLatent(Plain):
    def forward(self, batch):
        pass


def program(batch):
    pass


instance = nn.Linear(2, 3)


class NoModule:
    pass


class Ladder(Program):
    """z0 -> h1 -> z1 -> x."""

    def __init__(self, data_dim: int):
        super().__init__()
        self.below, self.decoder = nn.Linear(2, 5), nn.Linear(5, data_dim)

    def forward(self, batch):
        with data_plate(batch):
            zero = self.below.bias.new_zeros(2)
            z0 = pyro.sample("z0", dist.Normal(zero, 1.0).to_event(1))
            h1 = pyro.deterministic("h1", self.below(z0).tanh(), event_dim=1)
            z1 = pyro.sample("z1", dist.Normal(h1, 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(self.decoder(z1), 0.5).to_event(1), obs=batch.x)


class Means(Program):
    """Global mean and scale of every pixel."""

    def __init__(self, data_dim: int):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(data_dim))

    def forward(self, batch):
        s = pyro.sample("s", dist.HalfNormal(self.mean.new_ones(len(self.mean))).to_event(1))
        with data_plate(batch):
            return pyro.sample("x", dist.Normal(self.mean, s).to_event(1), obs=batch.x)
