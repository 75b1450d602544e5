"""A student's own networks in the project's model and guide, whatever their layers are called."""

import torch
from torch import Tensor, nn

from guides import GUIDES
from ppl_models import VAE


class Numbers(nn.Module):
    """An encoder that returns mean and log variance, ``[B, M]`` each, as one tensor ``[B, 2M]``.

    Args:
        network: the student's encoder.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(tuple(self.network(x)), -1)


def own_vae(
    decoder: nn.Module, log_variance: Tensor, image_shape: tuple[int, ...], latent_dim: int
) -> VAE:
    """The project's VAE, in evaluation mode, with a student's decoder.

    Args:
        decoder: latents ``[..., M]`` to the means of the pixels ``[..., D]``.
        log_variance: log sigma^2 of the pixels, a number.
        image_shape: ``(C, H, W)``.
        latent_dim: M.
    """
    model = VAE(tuple(image_shape), latent_dim)
    model.decoder = nn.Sequential(decoder, nn.Unflatten(-1, (1, *image_shape)))
    model.likelihood.log_sigma.data = log_variance.detach() / 2
    return model.eval()


def own_guide(model: VAE, encoder: nn.Module) -> nn.Module:
    """The project's guide ``amortized``, in evaluation mode, with a student's encoder.

    Args:
        model: what the guide is for.
        encoder: images ``[B, D]`` to mean and log variance, ``[B, M]`` each.
    """
    guide = GUIDES["amortized"](model)
    guide.encoder = Numbers(encoder)
    return guide.eval()
