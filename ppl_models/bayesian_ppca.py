"""Bayesian PPCA: the parameters are latents too, and the data choose the dimension."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.batch import Batch, data_plate
from ppl_models.distributions.normals import LowRankNormal
from ppl_models.program import Program


class BayesianPPCA(Program):
    r"""Probabilistic PCA with priors on sigma, mu and W.

    .. math::
        \sigma &\sim \operatorname{HalfNormal}(a) \qquad \mu \sim \mathcal N(0, a^2 I_D) \\
        s_k &\sim \operatorname{HalfNormal}(a) \qquad V_{dk} \sim \mathcal N(0, 1)
            \qquad W = V \operatorname{diag}(s) \\
        x_n &\sim \mathcal N(\mu, W W^\top + \sigma^2 I_D)

    A column that the data do not need has a scale near zero (automatic relevance determination),
    so M is only an upper limit. Scales and directions are sampled separately (non-centred), so the
    prior has no funnel. The data determine W W⊤ only: the columns of W may be rotated, reordered
    and change sign, unless W is ``identified``.

    Args:
        data_dim: D, the dimension of an observation.
        latent_dim: M, the maximum number of columns.
        prior_scale: a, in the units of x.
        marginal: integrate z out; otherwise it is sampled for every datum.
        identified: V is lower triangular with a positive diagonal, which excludes rotations.

    Raises:
        ValueError: If ``latent_dim`` is not between 1 and ``data_dim``, or ``prior_scale`` is not
            above 0.

    References:
        Bishop (1999), Bayesian PCA; Geweke & Zhou (1996), the triangular form.
    """

    a: Tensor

    def __init__(
        self,
        data_dim: int,
        latent_dim: int = 8,
        prior_scale: float = 1.0,
        marginal: bool = True,
        identified: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= latent_dim <= data_dim or not prior_scale > 0:
            raise ValueError(
                f"latent_dim={latent_dim} must lie between 1 and data_dim={data_dim}, "
                f"prior_scale={prior_scale} be above 0."
            )
        self.data_dim, self.latent_dim = data_dim, latent_dim
        self.marginal, self.identified = marginal, identified
        self.register_buffer("a", torch.tensor(float(prior_scale)))

    def forward(self, batch: Batch) -> Tensor:
        zero, one = torch.zeros_like(self.a), torch.ones_like(self.a)
        sigma = pyro.sample("sigma", dist.HalfNormal(self.a))
        mu = pyro.sample("mu", dist.Normal(zero, self.a).expand([self.data_dim]).to_event(1))
        s = pyro.sample("s", dist.HalfNormal(self.a).expand([self.latent_dim]).to_event(1))
        V = self.triangle() if self.identified else self.matrix()
        W = pyro.deterministic("W", V * s.unsqueeze(-2), event_dim=2)
        with data_plate(batch):
            if self.marginal:
                return pyro.sample("x", self.evidence(W, mu, sigma), obs=batch.x)
            z = pyro.sample("z", dist.Normal(zero, one).expand([self.latent_dim]).to_event(1))
            loc = (W @ z.unsqueeze(-1)).squeeze(-1) + mu
            x = dist.Normal(loc, sigma.unsqueeze(-1)).to_event(1)
            return pyro.sample("x", x, obs=batch.x)

    def matrix(self) -> Tensor:
        """V, all entries free, ``[D, M]``."""
        normal = dist.Normal(torch.zeros_like(self.a), 1.0)
        return pyro.sample("V", normal.expand([self.data_dim, self.latent_dim]).to_event(2))

    def triangle(self) -> Tensor:
        """V with zeros above a positive diagonal, ``[D, M]``."""
        row, column = torch.tril_indices(self.data_dim, self.latent_dim, -1)
        zero = torch.zeros_like(self.a)
        half = dist.HalfNormal(zero + 1).expand([self.latent_dim]).to_event(1)
        diagonal = pyro.sample("V_diagonal", half)
        below = pyro.sample("V_below", dist.Normal(zero, 1.0).expand([len(row)]).to_event(1))
        V = zero.expand(*below.shape[:-1], self.data_dim, self.latent_dim).clone()
        V[..., row, column] = below
        V[..., range(self.latent_dim), range(self.latent_dim)] = diagonal
        return V

    def evidence(self, W: Tensor, mu: Tensor, sigma: Tensor) -> LowRankNormal:
        """p(x | W, mu, sigma), z integrated out, event ``[D]``."""
        variance = sigma.square().unsqueeze(-1).expand(*sigma.shape, self.data_dim)
        return LowRankNormal(mu, W, variance)
