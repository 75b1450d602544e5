"""Probabilistic PCA: the model in which everything is known in closed form."""

import copy

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppl_models.batch import Batch, data_plate
from ppl_models.distributions.normals import IsotropicNormal, LowRankNormal
from ppl_models.pca import covariance_spectrum
from ppl_models.program import Program, same_story
from ppl_models.random_numbers import forked_rng


class PPCA(Program):
    r"""Probabilistic PCA.

    .. math::
        z_n &\sim \mathcal N(0, I_M) \\
        x_n \mid z_n &\sim \mathcal N(W z_n + \mu, \sigma^2 I_D)

    W starts with random columns of about unit length, the mean at zero and sigma at one.

    Args:
        data_dim: D, the dimension of an observation.
        latent_dim: M, the dimension of a latent; at most D.

    Attributes:
        W: the linear map, ``[D, M]``.
        mu: the mean of x, ``[D]``.
        log_sigma: logarithm of the noise's standard deviation, ``[]``.

    Raises:
        ValueError: If ``latent_dim`` is not between 1 and ``data_dim``.

    References:
        Tipping & Bishop (1999), the generative model of PPCA.
    """

    def __init__(self, data_dim: int, latent_dim: int = 2) -> None:
        super().__init__()
        if data_dim < 1:
            raise ValueError(f"data_dim={data_dim} must be at least 1.")
        if not 1 <= latent_dim <= data_dim:
            raise ValueError(
                f"latent_dim={latent_dim} must lie between 1 and data_dim={data_dim}."
            )
        self.W = nn.Parameter(torch.randn(data_dim, latent_dim) / data_dim**0.5)
        self.mu = nn.Parameter(torch.zeros(data_dim))
        self.log_sigma = nn.Parameter(torch.zeros(()))

    @property
    def sigma(self) -> Tensor:
        """The noise's standard deviation, ``[]``."""
        return self.log_sigma.exp()

    def prior(self) -> dist.Distribution:
        """p(z), a standard normal with event ``[M]``."""
        return dist.Normal(self.W.new_zeros(self.W.shape[1]), 1.0).to_event(1)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """p(x | z), a normal with event ``[D]``."""
        return IsotropicNormal(F.linear(z, self.W, self.mu), self.sigma)  # W z + mu

    def forward(self, batch: Batch) -> Tensor:
        with data_plate(batch):
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", self.likelihood(z), obs=batch.x)

    def marginal(self) -> LowRankNormal:
        """p(x) = N(mu, W W⊤ + sigma^2 I), event ``[D]``, via an M x M matrix (Woodbury)."""
        return LowRankNormal(self.mu, self.W, self.sigma.square().expand(len(self.mu)))

    def posterior_precision(self) -> Tensor:
        """Lambda = (W⊤W + sigma^2 I) / sigma^2, ``[M, M]``, the same for every datum."""
        return self._precision(self.W).to(self.W.dtype)

    def _precision(self, W: Tensor) -> Tensor:
        W = W.double()  # in float32, nearly parallel columns can make it indefinite
        identity = torch.eye(W.shape[1], dtype=W.dtype, device=W.device)
        return W.mT @ W / self.sigma.double().square() + identity

    def posterior(self, x: Tensor, observed: Tensor | None = None) -> dist.MultivariateNormal:
        """p(z | x) = N(A^-1 W⊤(x - mu), sigma^2 A^-1) with A = W⊤W + sigma^2 I.

        Args:
            x: observations ``[B, D]``.
            observed: optional mask ``[D]``; the posterior is then given the pixels where it is
                true.

        Returns:
            A normal with event ``[M]`` for every row.

        Raises:
            ValueError: If ``x`` has another number of entries than ``data_dim``.
        """
        if x.shape[-1:] != self.mu.shape:
            raise ValueError(f"x is {list(x.shape)}, the model has data_dim={len(self.mu)}.")
        W: Tensor = self.W
        mu: Tensor = self.mu
        if observed is not None:
            W, mu, x = W[observed], mu[observed], x[..., observed]
        precision = self._precision(W)
        projected = (x - mu).double() @ W.double() / self.sigma.double().square()
        loc = torch.cholesky_solve(projected.mT, torch.linalg.cholesky(precision)).mT
        exact = dist.MultivariateNormal(loc, precision_matrix=precision)
        dtype = torch.promote_types(x.dtype, W.dtype)
        return dist.MultivariateNormal(loc.to(dtype), scale_tril=exact.scale_tril.to(dtype))

    @classmethod
    def _of(cls, W: Tensor, mu: Tensor, log_sigma: Tensor) -> "PPCA":
        with forked_rng():
            model = cls(*W.shape)
        model.W, model.mu = nn.Parameter(W), nn.Parameter(mu)
        model.log_sigma = nn.Parameter(log_sigma)
        return model

    @classmethod
    def maximum_likelihood(cls, x: Tensor, latent_dim: int = 2, correction: int = 0) -> "PPCA":
        """The global maximum of the likelihood, computed in float64, in the dtype of ``x``.

        sigma^2 is the mean of the discarded eigenvalues of the covariance and
        W = U (L - sigma^2 I)^(1/2), with columns along the leading eigenvectors.

        Args:
            x: observations ``[N, D]``.
            latent_dim: M, below the rank of the data.
            correction: the covariance is divided by N - ``correction`` (0 maximises the
                likelihood; scikit-learn's ``PCA.score`` uses 1).

        Raises:
            ValueError: If the data are constant, or ``latent_dim`` reaches their rank: sigma^2
                would be zero.

        References:
            The ML solution of Tipping & Bishop (1999).
        """
        _check_varies(x)
        mean, eigenvalues, vectors = covariance_spectrum(x, correction)
        tolerance = eigenvalues[0] * len(eigenvalues) * torch.finfo(torch.float64).eps
        rank = int((eigenvalues > tolerance).sum())
        if rank < 2:
            raise ValueError("the data lie on a line: sigma^2 is 0 for every latent_dim.")
        if not 1 <= latent_dim < rank:
            raise ValueError(
                f"latent_dim={latent_dim} must lie between 1 and {rank - 1}: the data have rank "
                f"{rank}, where sigma^2 would be 0 and the likelihood unbounded."
            )
        variance = eigenvalues[latent_dim:].mean()
        excess = (eigenvalues[:latent_dim] - variance).clamp(min=0)  # equal ones, up to rounding
        W = vectors[:, :latent_dim] * excess.sqrt()
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        return cls._of(W.to(dtype), mean.to(dtype), variance.log().mul(0.5).to(dtype))

    @torch.no_grad()
    def em_step(self, x: Tensor) -> None:
        """One step of expectation-maximisation on all of ``x`` ``[N, D]``; never lowers log p(x).

        Computed in float64.

        References:
            Tipping & Bishop (1999), the EM algorithm for PPCA.
        """
        _check_varies(x)
        mu, W = x.mean(0, dtype=torch.float64), self.W.double()
        variance, centred = self.sigma.double().square(), x - mu
        covariance = torch.linalg.inv(self._precision(W))  # of the posterior
        expected = centred @ W @ covariance / variance  # <z_n>, [N, M]
        second = expected.mT @ expected + len(x) * covariance  # sum of <z_n z_n⊤>
        W = torch.linalg.solve(second, centred.mT @ expected, left=False)
        # a sum of squares without subtractions, since sigma may be small compared with W
        residual = (centred - expected @ W.mT).square().sum()
        residual += len(x) * (W @ covariance * W).sum()
        self.mu.copy_(mu)
        self.W.copy_(W)
        self.log_sigma.copy_(0.5 * (residual / x.numel()).log())

    @torch.no_grad()
    def rotated(self, rotation: Tensor) -> "PPCA":
        """A copy with the same p(x) in other latent coordinates: W R, R ``[M, M]`` orthogonal.

        Raises:
            ValueError: If a subclass overrides a part of the story, whose p(x) might change.
        """
        if not same_story(self, PPCA):
            raise ValueError(
                f"{type(self).__name__} overrides a part of PPCA's story, so that p(x) may change "
                "where W is rotated: leave W as it is (compare --no-rotate)."
            )
        turned = copy.deepcopy(self).requires_grad_(True)
        turned.W = nn.Parameter(self.W @ rotation)
        return turned


def _check_varies(x: Tensor) -> None:
    """Refuse data that are all alike."""
    if len(x) < 2 or (x == x[:1]).all():
        what = f"{len(x)} row" if len(x) < 2 else "all rows are alike"
        raise ValueError(f"the data are constant ({what}): no sigma^2 above 0 fits them best.")
