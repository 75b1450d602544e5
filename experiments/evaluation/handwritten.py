"""What the project's speed is measured against: the lab's VAE in plain PyTorch, without Pyro."""

import math

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from experiments.data import Data

__all__ = ["HandwrittenVAE", "per_item_loader"]


class HandwrittenVAE(nn.Module):
    """One hidden layer each way, one learned sigma, one draw, the KL in closed form.

    Args:
        data_dim: D.
        latent_dim: K.
        hidden_dim: width of both hidden layers.
    """

    def __init__(self, data_dim: int, latent_dim: int = 2, hidden_dim: int = 400) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(data_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 2 * latent_dim)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, data_dim)
        )
        self.log_sigma = nn.Parameter(torch.zeros(()))

    @property
    def number_of_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def loss(self, x: Tensor) -> Tensor:
        """The negative ELBO of a batch ``[B, D]`` [nats per data point]."""
        loc, log_square = self.encoder(x).chunk(2, -1)
        z = loc + (0.5 * log_square).exp() * torch.randn_like(loc)
        squared = (x - self.decoder(z)).square().sum(-1)
        normaliser = x.shape[-1] * (self.log_sigma + 0.5 * math.log(2 * math.pi))
        distortion = 0.5 * squared * (-2 * self.log_sigma).exp() + normaliser
        rate = 0.5 * (log_square.exp() + loc.square() - 1 - log_square).sum(-1)
        return (distortion + rate).mean()


class PerItem(Dataset):
    """One image at a time as torchvision gives it: bytes to PIL to a float tensor."""

    def __init__(self, data: Data) -> None:
        from torchvision.transforms import ToTensor

        self.images, self.levels = data.pixels.cpu().numpy(), data.levels
        self.transform = ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Tensor:
        from PIL import Image

        image = self.transform(Image.fromarray(self.images[row, 0]))
        return image if self.levels == 255 else image * (255 / self.levels)


def per_item_loader(data: Data, batch_size: int) -> DataLoader:
    """The lab's loader: shuffled, in the process itself, image by image."""
    return DataLoader(PerItem(data), batch_size, shuffle=True)
