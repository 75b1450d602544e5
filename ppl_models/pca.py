"""Principal component analysis: the linear map that every later model is compared with."""

import numpy as np
import torch
from torch import Tensor, nn


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
    mean, scatter = _moments(x)
    if not np.isfinite(scatter).all():
        raise ValueError("observations hold NaN or infinite values.")
    values, columns = np.linalg.eigh(scatter / (len(x) - correction))
    eigenvalues = torch.from_numpy(values).to(x.device).flip(0).clamp(min=0.0)
    vectors = torch.from_numpy(columns).to(x.device).flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return torch.from_numpy(mean).to(x.device), eigenvalues, vectors * largest.sign()


def _moments(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The mean ``[D]`` and the sum over the rows of (x - mean) (x - mean)⊤, ``[D, D]``.

    On a CPU, NumPy multiplies a matrix by its transpose in half the time that torch takes.
    """
    if not x.is_cpu:
        mean = x.detach().mean(0, dtype=torch.float64)
        parts = (rows.double() - mean for rows in x.detach().split(8192))
        return mean.cpu().numpy(), sum(part.mT @ part for part in parts).cpu().numpy()
    rows = x.detach().numpy()
    mean = rows.mean(0, dtype=np.float64)
    if rows.dtype == np.float64:
        second, squared = rows.T @ rows, len(rows) * mean**2
        # for data far from the origin, x⊤x minus the mean's part would cancel
        if (squared <= 10 * (second.diagonal() - squared)).all() or not np.isfinite(mean).all():
            return mean, second - len(rows) * np.outer(mean, mean)
    scatter = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(rows), 4096):
        centred = rows[start : start + 4096] - mean
        scatter += centred.T @ centred
    return mean, scatter


class PCA(nn.Module):
    """The M leading eigenvectors of the data covariance.

    Args:
        x: observations ``[N, D]``.
        latent_dim: M, the number of components; at most D.

    Attributes:
        mean: mean of the data, ``[D]``.
        components: the M leading eigenvectors as columns, ``[D, M]``.
        eigenvalues: all eigenvalues from large to small, ``[D]``, in float64.

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
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        self.register_buffer("mean", mean.to(dtype))
        self.register_buffer("components", vectors[:, :latent_dim].to(dtype))
        self.register_buffer("eigenvalues", eigenvalues)

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates ``[B, M]`` of observations ``[B, D]``."""
        return (x - self.mean) @ self.components

    def decode(self, z: Tensor) -> Tensor:
        """Observations ``[B, D]`` at coordinates ``[B, M]``."""
        return z @ self.components.mT + self.mean

    def squared_error(self, x: Tensor) -> Tensor:
        """Squared distance ``[B]`` of ``x`` from its reconstruction [squared units of x]."""
        return (x - self.decode(self.encode(x))).square().sum(-1)
