"""Principal component analysis: the linear map that every later model is compared with."""

import itertools

import torch
from torch import Tensor, nn

__all__ = ["PCA", "covariance_spectrum"]


def covariance_spectrum(x: Tensor, correction: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and eigen-decomposition of the covariance, in float64.

    Args:
        x: observations ``[N, D]``.
        correction: the covariance is divided by N - ``correction``.

    Returns:
        The mean ``[D]``, the eigenvalues ``[D]`` from large to small, and the eigenvectors as
        columns ``[D, D]``, each with its largest entry positive.

    Raises:
        ValueError: If ``x`` is not a matrix of finite numbers with more rows than ``correction``.
    """
    if x.ndim != 2 or len(x) <= correction:
        raise ValueError(
            f"observations must be [N, D] with N > {correction}, got {list(x.shape)}."
        )
    mean = x.mean(0, dtype=torch.float64)
    lower = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    ends = [x.shape[1] * part // 4 for part in range(5)]
    for rows in x.split(4096):
        centred = rows.double() - mean
        for start, end in itertools.pairwise(ends):  # the upper triangle need not be computed
            lower[start:end, :end].addmm_(centred[:, start:end].mT, centred[:, :end])
    scatter = lower.tril() + lower.tril(-1).mT
    if not scatter.isfinite().all():
        raise ValueError("observations hold NaN or infinite values.")
    eigenvalues, vectors = torch.linalg.eigh(scatter / (len(x) - correction))
    eigenvalues, vectors = eigenvalues.flip(0).clamp(min=0.0), vectors.flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return mean, eigenvalues, vectors * largest.sign()


class PCA(nn.Module):
    """The M leading eigenvectors of the data covariance.

    Args:
        x: observations ``[N, D]``.
        latent_dim: M, the number of components; at most D.

    Raises:
        ValueError: If ``latent_dim`` is not between 1 and D, or ``x`` is not finite.

    References:
        Pearson (1901); Hotelling (1933).
    """

    mean: Tensor
    components: Tensor
    eigenvalues: Tensor

    def __init__(self, x: Tensor, latent_dim: int) -> None:
        super().__init__()
        if not 1 <= latent_dim <= x.shape[-1]:
            raise ValueError(
                f"latent_dim={latent_dim} must lie between 1 and data_dim={x.shape[-1]}."
            )
        mean, eigenvalues, vectors = covariance_spectrum(x)
        self.register_buffer("mean", mean.to(x.dtype))
        self.register_buffer("components", vectors[:, :latent_dim].to(x.dtype))
        self.register_buffer("eigenvalues", eigenvalues)

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates ``[B, M]`` of observations ``[B, D]``."""
        return (x - self.mean) @ self.components

    def decode(self, z: Tensor) -> Tensor:
        """Observations ``[B, D]`` at coordinates ``[B, M]``."""
        return z @ self.components.mT + self.mean

    def squared_error(self, x: Tensor) -> Tensor:
        """Squared distance ``[B]`` between observations and their reconstructions."""
        return (x - self.decode(self.encode(x))).square().sum(-1)
