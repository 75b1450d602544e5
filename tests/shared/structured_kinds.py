"""Kinds of programs with several latents, sites or plates, see ``program_kinds``."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import nn

from guides import GUIDES, Guide
from guides.guide import EffectGuide
from ppl_models import data_plate
from tests.shared.program_kinds import Kind, N, normal

STEPS = 3
"""Of the longest sequence."""


class TopDown(EffectGuide):
    """q(z0 | x) q(z1 | z0, x): each prior is replaced as it goes by."""

    def __init__(self, model):
        super().__init__(model)
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5))

    def features(self, batch):
        return (self.encoder(batch.x),)

    def get_posterior(self, name, prior):
        (f,) = self.seen(self.args_kwargs[0][0])
        if name == "z0":
            return dist.Normal(f[..., :1], f[..., 1:2].exp()).to_event(1)
        loc = f[..., 2:3] + f[..., 3:4] * self.upstream_value("z0")
        return dist.Normal(loc, f[..., 4:5].exp()).to_event(1)


class Hierarchy(Kind):
    """z0 ~ N(0, 1), z1 ~ N(tanh(a z0), 1/2), x ~ N(z1 w + b, 1/4)."""

    dim, points, coarse = 2, 121, 41

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.randn(4))
        self.w = nn.Parameter(torch.randn(4))

    def forward(self, batch):
        with data_plate(batch):
            z0 = pyro.sample("z0", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal((self.a * z0).tanh(), 0.7).to_event(1))
            x = dist.Normal(z1 * self.w + self.b, 0.5).to_event(1)
            return pyro.sample("x", x, obs=batch.x)

    def split(self, z):
        return {"z0": z[..., :1], "z1": z[..., 1:]}

    def log_prior(self, z, batch):
        return normal(z["z0"], 0.0, 1.0) + normal(z["z1"], (self.a * z["z0"]).tanh(), 0.7)

    def log_likelihood(self, z, batch):
        return normal(batch.x, z["z1"] * self.w + self.b, 0.5)

    def guide(self):
        return TopDown(self)


class SeveralSites(Kind):
    """z ~ N(0, 1); an image ~ N(z w + b, 1/4) and its tags ~ Bernoulli(z v)."""

    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))
        self.v = nn.Parameter(2 * torch.randn(4))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            image = dist.Normal(z * self.w + self.b, 0.5).to_event(1)
            pyro.sample("image", image, obs=batch.obs("image"))
            tags = dist.Bernoulli(logits=z * self.v).to_event(1)
            pyro.sample("tags", tags, obs=batch.obs("tags"))

    def log_likelihood(self, z, batch):
        logits = z["z"] * self.v
        tags = (batch.x["tags"] * logits - logits.exp().log1p()).sum(-1)
        return tags + normal(batch.x["image"], z["z"] * self.w + self.b, 0.5)


class Factor(Kind):
    """z ~ N(0, 1), a penalty exp(-c z^4), x ~ N(z w + b, 1/4)."""

    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
        self.c = nn.Parameter(torch.tensor(0.5))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.factor("penalty", -self.c * z.squeeze(-1) ** 4)
            x = dist.Normal(z * self.w + self.b, 0.5).to_event(1)
            return pyro.sample("x", x, obs=batch.x)

    def log_likelihood(self, z, batch):
        penalty = self.c * z["z"].squeeze(-1) ** 4
        return normal(batch.x, z["z"] * self.w + self.b, 0.5) - penalty


class InnerPlate(Kind):
    """z ~ N(0, 1), three measurements x_r ~ N(tanh(z w), 1/4) in a plate inside the data's."""

    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(2))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            x = dist.Normal((z * self.w).tanh() + self.b, 0.5).to_event(1)
            seen = None if batch.x is None else batch.x.transpose(0, 1)
            with pyro.plate("measurements", 3, dim=-2):
                return pyro.sample("x", x, obs=seen)

    def log_likelihood(self, z, batch):
        loc = ((z["z"] * self.w).tanh() + self.b).unsqueeze(-2)
        return normal(batch.x, loc, 0.5).sum(-1)


class Smoother(Guide):
    """q(z_t | z_{t-1}, x), Gaussian with a mean that is linear in z_{t-1}."""

    def __init__(self, model):
        super().__init__(model)
        self.encoder = nn.Sequential(nn.Linear(4 * STEPS, 8), nn.Tanh(), nn.Linear(8, 3 * STEPS))

    def features(self, batch):
        seen = batch.given["seen"]
        x = (batch.x * seen.unsqueeze(-1)).flatten(1)
        return (self.encoder(torch.cat([x, seen.to(x)], -1)).unflatten(-1, (STEPS, 3)),)

    def forward(self, batch):
        (f,) = self.seen(batch)
        with data_plate(batch):
            z = torch.zeros(1)
            for t in range(STEPS):
                loc = f[..., t, :1] + f[..., t, 1:2] * z
                with poutine.mask(mask=batch.given["seen"][:, t]):
                    z = pyro.sample(f"z{t}", dist.Normal(loc, f[..., t, 2:].exp()).to_event(1))


class Sequence(Kind):
    """z_t ~ N(a z_{t-1}, 1/2), x_t ~ N(emission(z_t), 1/4), of different lengths."""

    dim, reach, points, coarse = STEPS, 6.0, 41, 21

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.8))
        self.emission = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 3))

    def forward(self, batch):
        seen = batch.given["seen"]
        with data_plate(batch):
            z, means = torch.zeros(1), []
            for t in range(STEPS):
                with poutine.mask(mask=seen[:, t]):
                    z = pyro.sample(f"z{t}", dist.Normal(self.a * z, 0.7).to_event(1))
                means.append(self.emission(z))
            x = dist.Normal(torch.stack(means, -2), 0.5).mask(seen.unsqueeze(-1)).to_event(2)
            return pyro.sample("x", x, obs=batch.x)

    def masks(self, batch):
        return {f"z{t}": batch.given["seen"][:, t] for t in range(STEPS)}

    def given(self):
        return {"seen": torch.arange(STEPS) < (1 + torch.arange(N) % STEPS).unsqueeze(-1)}

    def split(self, z):
        return {f"z{t}": z[..., t : t + 1] for t in range(STEPS)}

    def each(self, z):
        """log p(z_t | z_{t-1}) of every step."""
        steps = torch.cat([z[f"z{t}"] for t in range(STEPS)], -1)
        before = torch.cat([torch.zeros_like(steps[..., :1]), steps[..., :-1]], -1)
        return dist.Normal(self.a * before, 0.7).log_prob(steps)

    def log_prior(self, z, batch):
        return (self.each(z) * batch.given["seen"]).sum(-1)

    def log_padding(self, z, batch):
        return (self.each(z) * ~batch.given["seen"]).sum(-1)

    def log_likelihood(self, z, batch):
        means = torch.stack([self.emission(z[f"z{t}"]) for t in range(STEPS)], -2)
        return (normal(batch.x, means, 0.5) * batch.given["seen"]).sum(-1)

    def guide(self):
        return Smoother(self)


class Schools(Kind):
    """Global m ~ N(0, 1), t ~ LogNormal(0, 1/2); e_n ~ N(0, 1), x_n ~ N(m + t e_n, (s r_n)^2)."""

    dim = 2

    def __init__(self):
        super().__init__()
        self.log_s = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        m = pyro.sample("m", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        t = pyro.sample("t", dist.LogNormal(torch.zeros(1), 0.5).to_event(1))
        with data_plate(batch):
            e = pyro.sample("e", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            x = dist.Normal(m + t * e, self.log_s.exp() * batch.given["error"].unsqueeze(-1))
            return pyro.sample("x", x.to_event(1), obs=batch.x)

    def given(self):
        return {"error": 0.5 + torch.rand(N)}

    def log_prior(self, z, batch):
        return normal(z["e"], 0.0, 1.0)

    def log_global(self, z):
        """Log-density of the latents of all data."""
        return normal(z["m"], 0.0, 1.0) + normal(z["t"].log(), 0.0, 0.5) - z["t"].log().sum(-1)

    def log_likelihood(self, z, batch):
        scale = self.log_s.exp() * batch.given["error"].unsqueeze(-1)
        return normal(batch.x, z["m"] + z["t"] * z["e"], scale)

    def log_marginal(self, u, batch):
        """log p(x, m, log t) of all rows, the effects integrated out, u of m and log t."""
        m, log_t = u[..., :1], u[..., 1:]
        error = self.log_s.exp() * batch.given["error"].unsqueeze(-1)
        scale = (log_t.exp().square() + error.square()).sqrt()
        told = normal(m, 0.0, 1.0) + normal(log_t, 0.0, 0.5)
        return told.squeeze(-1) + normal(batch.x, m, scale).sum(-1)

    def guide(self):
        return GUIDES["auto_multivariate_normal"](self).for_data(N)
