"""Models with a discrete latent y that is summed out, and what they are in closed form."""

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import nn

from guides import Guide
from ppl_models.batch import data_plate
from ppl_models.program import Program

SUM = {"enumerate": "parallel"}
C, K, D = 3, 2, 4


class Mixture(Program):
    """y ~ Categorical, x ~ N(m_y, 1): all latents are summed out."""

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.m = nn.Parameter(torch.randn(C)), nn.Parameter(2 * torch.randn(C, D))

    def forward(self, batch):
        with data_plate(batch):
            y = pyro.sample("y", dist.Categorical(logits=self.logits), infer=SUM)
            return pyro.sample("x", dist.Normal(self.m[y], 1.0).to_event(1), obs=batch.x)

    def joint(self, x):
        """log p(x, y), ``[B, C]``."""
        told = dist.Normal(self.m, 1.0).to_event(1).log_prob(x.unsqueeze(1))
        return told + self.logits.log_softmax(-1)


class Clusters(Program):
    """A Gaussian-mixture VAE with a linear decoder: y -> z -> x."""

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.m = nn.Parameter(torch.randn(C)), nn.Parameter(2 * torch.randn(C, K))
        self.W, self.b = nn.Parameter(torch.randn(K, D)), nn.Parameter(torch.randn(D))

    def forward(self, batch):
        with data_plate(batch):
            y = pyro.sample("y", dist.Categorical(logits=self.logits), infer=SUM)
            z = pyro.sample("z", dist.Normal(self.m[y], 0.7).to_event(1))
            loc = z @ self.W + self.b
            return pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=batch.x)

    def given_y(self, x):
        """log p(x | y), ``[B, C]``; mean and covariance of p(z | x, y)."""
        W, centre = self.W, self.m @ self.W + self.b
        cov = 0.49 * W.mT @ W + 0.25 * torch.eye(D)
        told = dist.MultivariateNormal(centre, cov).log_prob(x.unsqueeze(1))
        posterior = torch.linalg.inv(torch.eye(K) / 0.49 + 4 * W @ W.mT)
        residual = x.unsqueeze(1) - centre
        return told, self.m + 4 * residual @ W.mT @ posterior, posterior

    def posterior(self, x):
        told, loc, cov = self.given_y(x)
        share = dist.Categorical(logits=told + self.logits.log_softmax(-1))
        return dist.MixtureSameFamily(share, dist.MultivariateNormal(loc, cov))

    def evidence(self, x):
        return (self.given_y(x)[0] + self.logits.log_softmax(-1)).logsumexp(1).detach()


class Labels(Program):
    """A semi-supervised VAE: y is observed where it is given; x ~ N(z W + y V, 1/4)."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(C))
        self.W, self.V = nn.Parameter(torch.randn(K, D)), nn.Parameter(torch.randn(C, D))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.W.new_zeros(K), 1.0).to_event(1))
            prior = dist.OneHotCategorical(logits=self.logits)
            y = pyro.sample("y", prior, obs=batch.given.get("y"), infer=SUM)
            loc = z @ self.W + y @ self.V
            return pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=batch.x)

    def joint(self, x, z):
        """log p(x, y | z) of every y, ``[B, C]``."""
        loc = (z @ self.W).unsqueeze(1) + self.V
        told = dist.Normal(loc, 0.5).to_event(1).log_prob(x.unsqueeze(1))
        return told + self.logits.log_softmax(-1)

    def posterior(self, x):
        cov = torch.linalg.inv(torch.eye(K) + 4 * self.W @ self.W.mT)
        loc = 4 * (x.unsqueeze(1) - self.V) @ self.W.mT @ cov
        share = dist.Categorical(logits=self.of_y(x) + self.logits.log_softmax(-1))
        return dist.MixtureSameFamily(share, dist.MultivariateNormal(loc, cov))

    def of_y(self, x):
        """log p(x | y), ``[B, C]``."""
        cov = self.W.mT @ self.W + 0.25 * torch.eye(D)
        return dist.MultivariateNormal(self.V, cov).log_prob(x.unsqueeze(1))

    def evidence(self, x):
        return (self.of_y(x) + self.logits.log_softmax(-1)).logsumexp(1).detach()


class Exact(Guide):
    """The model's own p(z | x), a mixture."""

    def forward(self, batch):
        with data_plate(batch):
            return pyro.sample("z", self.model.posterior(batch.x))


class Encoder(Program):
    """q(z | x), of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.A, self.s = nn.Parameter(0.3 * torch.randn(D, K)), nn.Parameter(0.1 * torch.randn(K))

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", dist.Normal(batch.x @ self.A, self.s.exp()).to_event(1))


class Classifier(Program):
    """q(y | x) q(z | x, y), the first factor summed over in the guide."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.A = nn.Linear(D, C), nn.Linear(D, K)
        self.V = nn.Parameter(torch.randn(C, K))

    def forward(self, batch):
        with data_plate(batch):
            y = batch.given.get("y")
            if y is None:
                y = pyro.sample("y", dist.OneHotCategorical(logits=self.c(batch.x)), infer=SUM)
            loc = self.A(batch.x) + y @ self.V
            pyro.sample("z", dist.Normal(loc, 0.6).to_event(1))


def labelled(count):
    """Rows with their labels, drawn from a model of their own."""
    y = F.one_hot(torch.randint(C, (count,)), C).to(torch.get_default_dtype())
    return y @ torch.randn(C, D) + torch.randn(count, D), y
