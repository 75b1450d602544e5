"""Ladders: hierarchies with log p(x) in closed form, and one whose supports move."""

import functools

import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from experiments.data import as_data
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program

S, SIGMA = 0.7, 0.5


class Ladder(Program):
    """z0 ~ N(0, I), z_l ~ N(A_l z_{l-1}, S^2), x ~ N(A z_L, SIGMA^2); or every z is log z.

    Args:
        shape: of z0.
        maps: A_1, ..., A.
        features: whether A_l z_{l-1} is shown to guides.
        positive: whether latents are positive, and their logarithms are what is above.
    """

    def __init__(self, shape, *maps, features=False, positive=False):
        super().__init__()
        self.shape, self.maps, self.features = shape, nn.ModuleList(maps), features
        self.family = dist.LogNormal if positive else dist.Normal
        self.positive = positive

    def latent(self, name, loc, scale):
        z = pyro.sample(name, self.family(loc, scale).to_event(len(self.shape)))
        return z.log() if self.positive else z

    def forward(self, batch):
        *maps, last = self.maps
        event_dim = len(self.shape)
        with data_plate(batch):
            z = self.latent("z0", next(self.parameters()).new_zeros(self.shape), 1.0)
            for i, linear in enumerate(maps, 1):
                loc = linear(z)
                if self.features:
                    loc = pyro.deterministic(f"h{i}", loc, event_dim=event_dim)
                z = self.latent(f"z{i}", loc, S)
            likelihood = dist.Normal(last(z), SIGMA).to_event(event_dim)
            return pyro.sample("x", likelihood, obs=batch.x)

    @torch.no_grad()
    def matrices(self):
        """Every A, of flat latents."""
        shape, found = torch.Size(self.shape), []
        for linear in self.maps:
            columns = linear(torch.eye(shape.numel()).reshape(-1, *shape))
            shape = columns.shape[1:]
            found.append(columns.flatten(1).mT)
        return found

    @functools.cached_property
    def precision(self):
        """Of p(z | x) over all latents, Lambda."""
        *between, last = self.matrices()
        first = torch.eye(int(torch.Size(self.shape).numel()))
        Lambda = torch.block_diag(first, *(torch.eye(len(A)) / S**2 for A in between))
        row = 0
        for A in between:
            here = slice(row, row + A.shape[1])
            row += A.shape[1]
            below = slice(row, row + len(A))
            Lambda[here, here] += A.mT @ A / S**2
            Lambda[below, here] -= A / S**2
            Lambda[here, below] -= A.mT / S**2
        Lambda[row:, row:] += last.mT @ last / SIGMA**2
        return Lambda

    @property
    def gap_across_groups(self):
        """Smallest gap of independent Gaussians, 1/2 (sum_k log Lambda_kk - log det Lambda)."""
        Lambda = self.precision
        return (0.5 * (Lambda.diagonal().log().sum() - torch.logdet(Lambda))).item()

    def evidence(self, x):
        """log p(x) of every row."""
        *between, last = self.matrices()
        C = torch.eye(int(torch.Size(self.shape).numel()))
        for A in between:
            C = A @ C @ A.mT + S**2 * torch.eye(len(A))
        C = last @ C @ last.mT + SIGMA**2 * torch.eye(len(last))
        return MultivariateNormal(torch.zeros(len(C)), C).log_prob(x.flatten(1))


def linear(rows, columns, diagonal=False):
    """Orthogonal columns of different lengths; or those of a diagonal matrix."""
    layer = nn.Linear(columns, rows, bias=False)
    Q = nn.init.orthogonal_(torch.empty(rows, columns))
    weight = torch.eye(rows, columns) if diagonal else Q
    layer.weight = nn.Parameter(weight * torch.linspace(0.6, 1.4, columns))
    return layer


def conv(channels, out):
    layer = nn.Conv2d(channels, out, 3, padding=1, bias=False)
    return layer


LADDERS = {
    "features": lambda: Ladder((2,), linear(3, 2, True), linear(6, 3), features=True),
    "no features": lambda: Ladder((2,), linear(3, 2, True), linear(6, 3)),
    "positive": lambda: Ladder(
        (2,), linear(3, 2, True), linear(6, 3), features=True, positive=True
    ),
    "three levels": lambda: Ladder((2,), linear(2, 2), linear(3, 2), linear(5, 3)),
    "maps": lambda: Ladder(
        (1, 2, 2),
        nn.Sequential(nn.Upsample(scale_factor=2), conv(1, 2)),
        conv(2, 1),
        features=True,
    ),
}


class Moving(Program):
    """z0 ~ Gamma(2, 1), z1 ~ U(0, a z0), z2 ~ U(-a, z1), x ~ N((z1, z2), 1/4): scalars."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(1.3))

    def forward(self, batch):
        with data_plate(batch):
            z0 = pyro.sample("z0", dist.Gamma(torch.full((), 2.0), 1.0))
            z1 = pyro.sample("z1", dist.Uniform(torch.zeros(()), self.a * z0))
            z2 = pyro.sample("z2", dist.Uniform(-self.a, z1))
            loc = torch.stack([z1, z2], -1)
            return pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=batch.x)

    @torch.no_grad()
    def evidence(self, x, n=80):
        """log p(x) of every row, by midpoints."""
        at = (torch.arange(n) + 0.5) / n
        z0 = -(1 - at).log()  # quantiles of an exponential, whose density is e^-z0
        z0, u, v = torch.meshgrid(z0, at, at, indexing="ij")
        z1 = u * self.a * z0
        z2 = -self.a + v * (z1 + self.a)
        loc = torch.stack([z1, z2], -1).reshape(-1, 2)
        log_w = z0.log().reshape(-1)  # Gamma(2, 1) against it
        rows = [dist.Normal(loc, 0.5).log_prob(row).sum(-1) + log_w for row in x]
        return torch.stack([row.logsumexp(0) for row in rows]) - 3 * torch.tensor(n).log()


def ladder(name, rows=24):
    """A frozen ladder and data that it made."""
    torch.manual_seed(3)
    model = (Moving if name == "moving" else LADDERS[name])().requires_grad_(False)
    return model, as_data(model(Batch.draw(rows))).like(model)
