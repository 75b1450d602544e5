"""Small random Pyro programs, and diagonal Gaussian guides of them, from a seed."""

import random
from collections.abc import Iterator

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program

COLUMNS, PARTS = 6, 3

PRIORS = {
    "normal": lambda loc: dist.Normal(loc, 0.8),
    "laplace": lambda loc: dist.Laplace(loc, 0.6),
    "student": lambda loc: dist.StudentT(5.0, loc, 0.7),
}

LIKELIHOODS = {
    "normal": (lambda h: dist.Normal(h, 0.7), lambda x: x),
    "student": (lambda h: dist.StudentT(4.0, h, 0.8), lambda x: x),
    "bernoulli": (lambda h: dist.Bernoulli(logits=h), lambda x: (x > 0).to(x)),
    "poisson": (lambda h: dist.Poisson((0.3 * h).exp()), lambda x: x.exp().floor()),
    "gamma": (lambda h: dist.Gamma(2.0, (0.3 * h).exp()), lambda x: x.exp()),
    "binomial": (lambda h: dist.Binomial(4, logits=h), lambda x: (x.sigmoid() * 4).floor()),
    "vector": (
        lambda h: dist.Normal(torch.stack([h, -h], -1), 0.9).to_event(1),
        lambda x: torch.stack([x, 2 * x], -1),
    ),
}
"""A distribution around h, and what it observes of a column of the data."""


class Shape:
    """What a program is made of.

    Args:
        seed: of everything but the values of parameters.
    """

    def __init__(self, seed: int) -> None:
        r = random.Random(seed)
        latents = [(r.choice((0, 1, 2)), r.choice([*PRIORS])) for _ in range(r.randint(1, 3))]
        observed = [(r.choice([*LIKELIHOODS]), r.random() < 0.4) for _ in range(r.randint(1, 3))]
        self.inner = [latents.pop()] if len(latents) > 1 and r.random() < 0.5 else []
        self.outer, self.dependent = latents, r.random() < 0.6
        self.observed = [family for family, inside in observed if not inside]
        self.inside = [family for family, inside in observed if inside]
        if self.inner and not self.inside:
            self.inside = [self.observed.pop()]
        self.factor, self.masked = r.random() < 0.3, r.random() < 0.3
        self.categories = r.choice((2, 3))
        self.y = r.choice(["first", "last", "inside"] if self.inside else ["first", "last"])

    @property
    def depth(self) -> int:
        return 2 if self.inside else 1


class Story(Program):
    """z0, z1, ... and observations around sums of them, some in a plate inside that of the data.

    Args:
        shape: what it is made of.
        sums: whether it has the discrete latent y that is summed out.
    """

    def __init__(self, shape: Shape, sums: bool) -> None:
        super().__init__()
        self.shape, self.y = shape, shape.y if sums else None
        self.theta = nn.Parameter(0.7 * torch.randn(40))
        self.v = nn.Parameter(torch.randn(shape.categories))

    def forward(self, batch: Batch) -> None:
        s, t = self.shape, iter(self.theta)
        columns = iter(range(COLUMNS))
        with data_plate(batch):
            h = next(t) + self.told("first", 0 * next(t))
            h = self.latents("z", s.outer, h, t)
            h = h + self.told("last", h)
            if s.factor:
                pyro.factor("penalty", -next(t).exp() * h.square())
            for k, family in enumerate(s.observed):
                name = f"x{k}" if k else "x"
                seen = batch.x[:, 0] > -0.5 if s.masked and k == 0 else True
                with pyro.poutine.mask(mask=seen):
                    self.observe(name, family, h * next(t), batch.x[:, next(columns)])
            if s.inside:
                with pyro.plate("parts", PARTS, dim=-2):
                    h = h + self.told("inside", h)
                    h = self.latents("w", s.inner, h, t)
                    for k, family in enumerate(s.inside):
                        name = f"w{k}x" if k or s.observed else "x"
                        x = batch.x[:, [k, k + 1, k + 2]].mT
                        self.observe(name, family, h * next(t), x)

    def told(self, where: str, h: Tensor) -> Tensor | float:
        """What y adds to h, if this is where it is drawn."""
        if self.y != where:
            return 0.0
        logits = torch.stack([h * k for k in range(len(self.v))], -1)
        infer = {"enumerate": "parallel"}
        return self.v[pyro.sample("y", dist.Categorical(logits=logits), infer=infer)]

    def latents(self, name: str, kinds: list, h: Tensor, t: Iterator[Tensor]) -> Tensor:
        for k, (dim, family) in enumerate(kinds):
            loc = next(t) + (h if self.shape.dependent else h.new_zeros(()))
            if dim:
                weights = torch.stack([next(t) for _ in range(dim)])
                prior = PRIORS[family](loc.unsqueeze(-1) * weights).to_event(1)
                h = h + (pyro.sample(f"{name}{k}", prior) * weights).sum(-1)
            else:
                h = h + pyro.sample(f"{name}{k}", PRIORS[family](loc)) * next(t)
        return h

    def observe(self, name: str, family: str, h: Tensor, x: Tensor) -> None:
        likelihood, of = LIKELIHOODS[family]
        pyro.sample(name, likelihood(h), obs=of(x))


class Diagonal(Program):
    """Independent Gaussians, their means linear in the data."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, self.theta = shape, nn.Parameter(0.5 * torch.randn(40))

    def forward(self, batch: Batch) -> None:
        t = iter(self.theta)
        with data_plate(batch):
            self.latents("z", self.shape.outer, batch.x[:, 0], t)
            if self.shape.inside:
                with pyro.plate("parts", PARTS, dim=-2):
                    self.latents("w", self.shape.inner, batch.x[:, :PARTS].mT, t)

    def latents(self, name: str, kinds: list, x: Tensor, t: Iterator[Tensor]) -> None:
        for k, (dim, _) in enumerate(kinds):
            loc, scale = x * next(t) + next(t), next(t).exp()
            if dim:
                weights = torch.stack([next(t) for _ in range(dim)])
                q = dist.Normal(loc.unsqueeze(-1) * weights, scale).to_event(1)
            else:
                q = dist.Normal(loc, scale)
            pyro.sample(f"{name}{k}", q)
