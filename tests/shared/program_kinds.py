"""Kinds of programs that people write, each with its guide and its density written out.

``forward`` is the program. Beside it stand log p(z) and log p(x | z) in plain PyTorch: every truth
of the table in docs/guides.md is made of these two, on a grid (``quadrature``) or at draws.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.distributions import biject_to, constraints

from guides import Amortized
from ppl_models import Program, data_plate

N = 12
REAL, POSITIVE = constraints.real, constraints.positive
ANGLE = constraints.interval(-math.pi, math.pi)
SUM = {"enumerate": "parallel"}


def normal(value, loc, scale):
    """Log-density of a Gaussian vector."""
    return dist.Normal(loc, scale).log_prob(value).sum(-1)


class Kind(Program):
    """A program and its density; by default of one standard Gaussian vector z."""

    support = constraints.independent(REAL, 1)
    dim, reach, points, coarse = 1, 8.0, 161, 161
    """Coordinates of all latents, and the grid, from -reach to reach along each: so many points
    for integrals, and so many for draws."""

    def split(self, z):
        """The latents by name, from a point of the grid."""
        return {"z": z}

    def given(self):
        """What the data are given."""
        return {}

    def log_prior(self, z, batch):
        return normal(z["z"], 0.0, 1.0)

    def log_likelihood(self, z, batch):
        raise NotImplementedError

    def log_padding(self, z, batch):
        """Log-density of latents that are masked, which counts on the grid alone."""
        return 0.0

    @property
    def transform(self):
        return biject_to(self.support)

    def guide(self):
        return Amortized(self, hidden_dims=(8,))


class FactorAnalysis(Kind):
    """z ~ N(0, I), x_d ~ N(w_d z + b_d, s_d^2) where it is not missing."""

    dim, points, coarse = 2, 81, 41

    def __init__(self):
        super().__init__()
        self.W, self.b = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(4))
        self.log_s = nn.Parameter(0.3 * torch.randn(4))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.b.new_zeros(2), 1.0).to_event(1))
            x = dist.Normal(z @ self.W.mT + self.b, self.log_s.exp())
            return pyro.sample("x", x.mask(batch.given["mask"]).to_event(1), obs=batch.x)

    def given(self):
        return {"mask": torch.rand(N, 4) < 0.7}

    def log_likelihood(self, z, batch):
        x = dist.Normal(z["z"] @ self.W.mT + self.b, self.log_s.exp()).log_prob(batch.x)
        return (x * batch.given["mask"]).sum(-1)

    def guide(self):
        return Amortized(self, hidden_dims=(8,), covariance="full")


class ConditionalVAE(Kind):
    """z ~ N(0, 1), x ~ Bernoulli(decoder(z, y)) given the label y."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            logits = self.decoder(torch.cat([z, batch.given["y"]], -1))
            return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=batch.x)

    def given(self):
        return {"y": torch.eye(3)[torch.arange(N) % 3]}

    def log_likelihood(self, z, batch):
        y = batch.given["y"]
        leading = torch.broadcast_shapes(z["z"].shape[:-1], y.shape[:-1])
        both = [part.expand(*leading, -1) for part in (z["z"], y)]
        logits = self.decoder(torch.cat(both, -1))
        return (batch.x * logits - logits.exp().log1p()).sum(-1)


class SemiSupervised(Kind):
    """z ~ N(0, 1), y ~ Categorical, x ~ N(z w + v_y, 1/4); y is summed out where it is unknown."""

    def __init__(self):
        super().__init__()
        self.logits, self.w = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(1, 4))
        self.v = nn.Parameter(torch.randn(3, 4))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            prior = dist.OneHotCategorical(logits=self.logits)
            y = pyro.sample("y", prior, obs=batch.given.get("y"), infer=SUM)
            loc = z @ self.w + y @ self.v
            return pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=batch.x)

    def log_likelihood(self, z, batch):
        loc = (z["z"] @ self.w).unsqueeze(-2) + self.v
        x = normal(batch.x.unsqueeze(-2), loc, 0.5)
        return (x + self.logits.log_softmax(-1)).logsumexp(-1)


class MixtureVAE(Kind):
    """y ~ Categorical, z ~ N(m_y, 1/2), x ~ N(decoder(z), 1/4); y is summed out."""

    dim, points, coarse = 2, 81, 41

    def __init__(self):
        super().__init__()
        self.logits, self.m = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3, 2))
        self.decoder = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 4))

    def forward(self, batch):
        with data_plate(batch):
            y = pyro.sample("y", dist.Categorical(logits=self.logits), infer=SUM)
            z = pyro.sample("z", dist.Normal(self.m[y], 0.7).to_event(1))
            x = dist.Normal(self.decoder(z), 0.5).to_event(1)
            return pyro.sample("x", x, obs=batch.x)

    def log_prior(self, z, batch):
        of_y = normal(z["z"].unsqueeze(-2), self.m, 0.7)
        return (of_y + self.logits.log_softmax(-1)).logsumexp(-1)

    def log_likelihood(self, z, batch):
        return normal(batch.x, self.decoder(z["z"]), 0.5)


class Counts(Kind):
    """z ~ N(0, 1), counts with mean exposure * exp(w z + b), of a negative binomial."""

    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(5)), nn.Parameter(torch.zeros(5))
        self.log_r = nn.Parameter(torch.ones(5))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            log_mean = batch.given["exposure"].log().unsqueeze(-1) + z * self.w + self.b
            x = dist.NegativeBinomial(self.log_r.exp(), logits=log_mean - self.log_r)
            return pyro.sample("x", x.to_event(1), obs=batch.x)

    def given(self):
        return {"exposure": 0.5 + 3 * torch.rand(N)}

    def log_likelihood(self, z, batch):
        r, x = self.log_r.exp(), batch.x
        m = batch.given["exposure"].unsqueeze(-1) * (z["z"] * self.w + self.b).exp()
        ways = (x + r).lgamma() - r.lgamma() - (x + 1).lgamma()
        return (ways + r * (r / (r + m)).log() + x * (m / (r + m)).log()).sum(-1)


class Ordinal(Kind):
    """z ~ N(0, 1), answers 0 to 3 with logit P(x_d > k) = w_d z - c_k."""

    def __init__(self):
        super().__init__()
        self.w, self.c = nn.Parameter(torch.randn(6)), nn.Parameter(torch.tensor([-1.0, 0.0, 0.0]))

    def cutpoints(self):
        return torch.cat([self.c[:1], self.c[:1] + self.c[1:].exp().cumsum(0)])

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            x = dist.OrderedLogistic(z * self.w, self.cutpoints())
            return pyro.sample("x", x.to_event(1), obs=batch.x)

    def log_likelihood(self, z, batch):
        above = ((z["z"] * self.w).unsqueeze(-1) - self.cutpoints()).sigmoid()
        one, none = torch.ones_like(above[..., :1]), torch.zeros_like(above[..., :1])
        each = torch.cat([one, above], -1) - torch.cat([above, none], -1)
        answers = torch.nn.functional.one_hot(batch.x.long(), 4)
        return (each.log() * answers).sum((-1, -2))


class Rate(Kind):
    """z ~ Gamma(a, 2), five counts of Poisson(z)."""

    support, reach, points = constraints.independent(POSITIVE, 1), 30.0, 601

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([1.0]))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Gamma(self.a.exp(), 2.0).to_event(1))
            x = dist.Poisson(z.expand(*z.shape[:-1], 5)).to_event(1)
            return pyro.sample("x", x, obs=batch.x)

    def log_prior(self, z, batch):
        a, z = self.a.exp(), z["z"]
        return (a * math.log(2) + (a - 1) * z.log() - 2 * z - a.lgamma()).sum(-1)

    def log_likelihood(self, z, batch):
        return (batch.x * z["z"].log() - z["z"] - (batch.x + 1).lgamma()).sum(-1)


class Shares(Kind):
    """z ~ Dirichlet, topics of a document of 20 words; x ~ Multinomial(z T)."""

    support, dim = constraints.simplex, 2
    reach, points, coarse = 16.0, 161, 61

    def __init__(self):
        super().__init__()
        self.log_a, self.T = nn.Parameter(torch.ones(3) * 0.7), nn.Parameter(torch.randn(3, 4))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Dirichlet(self.log_a.exp()))
            x = dist.Multinomial(20, probs=z @ self.T.softmax(-1))
            return pyro.sample("x", x, obs=batch.x)

    def log_prior(self, z, batch):
        a = self.log_a.exp()
        return ((a - 1) * z["z"].log()).sum(-1) + a.sum().lgamma() - a.lgamma().sum()

    def log_likelihood(self, z, batch):
        ways = torch.tensor(21.0).lgamma() - (batch.x + 1).lgamma().sum(-1)
        return ways + (batch.x * (z["z"] @ self.T.softmax(-1)).log()).sum(-1)


class Angle(Kind):
    """z ~ von Mises(0, 1), x ~ N(r (cos z, sin z), 1/4)."""

    support, reach, points = constraints.independent(ANGLE, 1), 40.0, 801

    def __init__(self):
        super().__init__()
        self.r = nn.Parameter(torch.tensor(1.0))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.VonMises(torch.zeros(1), 1.0).to_event(1))
            loc = self.r * torch.cat([z.cos(), z.sin()], -1)
            return pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=batch.x)

    def log_prior(self, z, batch):
        # torch's normalizer, a polynomial, is right to 2e-8
        return dist.VonMises(0.0, torch.tensor(1.0)).log_prob(z["z"]).sum(-1)

    def log_likelihood(self, z, batch):
        loc = self.r * torch.cat([z["z"].cos(), z["z"].sin()], -1)
        return normal(batch.x, loc, 0.5)


class VampPrior(Kind):
    """z from an even mixture of q(z | u_k) over pseudo-inputs u_k, x ~ N(decoder(z), 1/4)."""

    def __init__(self):
        super().__init__()
        self.u, self.encoder = nn.Parameter(2 * torch.randn(3, 4)), nn.Linear(4, 1)
        self.decoder = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 4))

    def forward(self, batch):
        with data_plate(batch):
            each = dist.Normal(self.encoder(self.u), 0.6).to_event(1)
            even = dist.Categorical(logits=self.u.new_zeros(3))
            z = pyro.sample("z", dist.MixtureSameFamily(even, each))
            x = dist.Normal(self.decoder(z), 0.5).to_event(1)
            return pyro.sample("x", x, obs=batch.x)

    def log_prior(self, z, batch):
        of_u = normal(z["z"].unsqueeze(-2), self.encoder(self.u), 0.6)
        return of_u.logsumexp(-1) - torch.tensor(3.0).log()

    def log_likelihood(self, z, batch):
        return normal(batch.x, self.decoder(z["z"]), 0.5)
