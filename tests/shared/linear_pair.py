"""A linear Gaussian pair that tests bend in one way each."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import nn
from torch.nn import functional as F

from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program

D, N = 2, 12
X = torch.randn(N, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SOME = Batch(X[:4], torch.arange(4), N)


class Linear(Program):
    """z ~ N(0, I), x ~ N(z + 1, I); subclasses say what else there is."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.ones(D))

    def plate(self, batch):
        return data_plate(batch)

    def prior(self):
        return pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))

    def observed(self, batch):
        return batch.x

    def mean(self, z, batch):
        return z + self.loc

    def forward(self, batch):
        with self.plate(batch):
            z = self.prior()
            x = dist.Normal(self.mean(z, batch), 1.0).to_event(1)
            return pyro.sample("x", x, obs=self.observed(batch))


class Parts(Linear):
    """``Linear``, its entries in a plate inside that of the data."""

    def forward(self, batch):
        x = None if batch.x is None else batch.x.T
        with data_plate(batch), pyro.plate("parts", D, dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            return pyro.sample("x", dist.Normal(z + 1, 1.0), obs=x)


class Encoder(Program):
    """q(z | x), the posterior of ``Linear`` but for its width."""

    def __init__(self) -> None:
        super().__init__()
        self.width = nn.Parameter(torch.tensor(0.8))

    def q(self, batch):
        return dist.Normal((batch.x - 1) / 2, self.width).to_event(1)

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", self.q(batch))


class Missing(Linear):
    """Rows with a first entry of -9 are missing."""

    def forward(self, batch):
        with data_plate(batch):
            z, x = self.prior(), batch.x
            seen = torch.ones(len(batch.index), dtype=torch.bool) if x is None else x[:, 0] > -8
            p = dist.Normal(z + self.loc, 1.0).to_event(1).mask(seen)
            return pyro.sample("x", p, obs=x)


class Groups(Program):
    """A mean of every group, in a plate of parameters; the group of a row is given."""

    def __init__(self):
        super().__init__()
        self.log_s = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        with pyro.plate("groups", 3):
            m = pyro.sample("m", dist.Normal(torch.zeros(()), 1.0))
        with data_plate(batch):
            loc = m[..., batch.given["group"]].unsqueeze(-1)
            return pyro.sample("x", dist.Normal(loc, self.log_s.exp()).to_event(1), obs=batch.x)


class Transformed(Linear):
    """The same model of 3 x + 5."""

    def observed(self, batch):
        return None if batch.x is None else (batch.x - 5) / 3


class HalfPrior(Linear):
    """The prior's density counts half, q's wholly."""

    def prior(self):
        with poutine.scale(scale=0.5):
            return super().prior()


class Decoder(Linear):
    """A layer between z and the mean of x, which may round its products."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Linear(D, D)

    def mean(self, z, batch):
        return self.decoder(z).to(z.dtype)


class Topics(Program):
    """A softmax over the latent, counted from the left or from the right."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, self.decoder = dim, nn.Linear(D, D)

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            x = dist.Normal(5 * self.decoder(F.softmax(z, self.dim)), 1.0)
            return pyro.sample("x", x.to_event(1), obs=batch.x)


class ToPoint(Encoder):
    """A guide of points."""

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", dist.Delta(self.width * batch.x).to_event(1))


class Normed(Program):
    """q of these latents, with a batch norm of x as its mean."""

    def __init__(self, *latents: str) -> None:
        super().__init__()
        self.norm, self.latents = nn.BatchNorm1d(D), latents

    def forward(self, batch):
        h = self.norm(batch.x)
        with data_plate(batch):
            for name in self.latents:
                pyro.sample(name, dist.Normal(h, 0.8).to_event(1))
