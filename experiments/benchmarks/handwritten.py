"""The reference for speed: the same computations in plain PyTorch."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from experiments.data import Data
from ppl_models.networks import ConvDecoder, ConvEncoder


class HandwrittenVAE(nn.Module):
    """The lab's: one hidden layer each way, one learned sigma, one draw, the KL in closed form."""

    latent_dim = 2

    def __init__(self, data_dim: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(data_dim, 400), nn.ReLU(), nn.Linear(400, 2 * self.latent_dim)
        )
        self.decoder = nn.Sequential(
            nn.Linear(self.latent_dim, 400), nn.ReLU(), nn.Linear(400, data_dim)
        )
        self.log_sigma = nn.Parameter(torch.zeros(()))

    def loss(self, x: Tensor) -> Tensor:
        """The negative ELBO of a batch ``[B, D]`` [nats per data point]."""
        loc, log_square = self.encoder(x).chunk(2, -1)
        z = loc + (0.5 * log_square).exp() * torch.randn_like(loc)
        squared = (x - self.decoder(z)).square().sum(-1)
        normaliser = x.shape[-1] * (self.log_sigma + 0.5 * math.log(2 * math.pi))
        distortion = 0.5 * squared * (-2 * self.log_sigma).exp() + normaliser
        return (distortion + rate(loc, log_square)).mean()


def rate(loc: Tensor, log_square: Tensor) -> Tensor:
    """KL(N(loc, s^2) || N(0, 1)) per datum [nats]."""
    return 0.5 * (log_square.exp() + loc.square() - 1 - log_square).sum(-1)


class HandwrittenIWAE(nn.Module):
    """Two layers of 200 tanh units each way, 50 latents, Bernoulli pixels, K draws."""

    latent_dim = 50

    def __init__(self, data_dim: int, particles: int) -> None:
        super().__init__()
        self.particles = particles
        self.encoder, self.decoder = (
            nn.Sequential(
                nn.Linear(inputs, 200),
                nn.Tanh(),
                nn.Linear(200, 200),
                nn.Tanh(),
                nn.Linear(200, outputs),
            )
            for inputs, outputs in ((data_dim, 2 * self.latent_dim), (self.latent_dim, data_dim))
        )

    def loss(self, x: Tensor) -> Tensor:
        """The negative importance-weighted bound of ``[B, D]`` [nats per data point]."""
        loc, log_square = self.encoder(x).chunk(2, -1)
        noise = torch.randn(self.particles, *loc.shape, dtype=loc.dtype, device=loc.device)
        z = loc + (0.5 * log_square).exp() * noise
        logits = self.decoder(z)
        log_p = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
        log_w = log_p.sum(-1) - 0.5 * (z.square() - noise.square() - log_square).sum(-1)
        return math.log(self.particles) - log_w.logsumexp(0).mean()


class HandwrittenConvVAE(nn.Module):
    """Two convolutions and two affine layers each way, Bernoulli pixels ``[C, H, W]``."""

    latent_dim = 20

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = ConvEncoder(data_shape, 2 * self.latent_dim)
        self.decoder = ConvDecoder(self.latent_dim, 1, data_shape)

    def loss(self, x: Tensor) -> Tensor:
        """The negative ELBO of images ``[B, C, H, W]`` [nats per data point]."""
        loc, log_square = self.encoder(x).chunk(2, -1)
        z = loc + (0.5 * log_square).exp() * torch.randn_like(loc)
        logits = self.decoder(z).squeeze(1)
        distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        return distortion + rate(loc, log_square).mean()


def stepper(module: nn.Module, lr: float, compile: bool = False) -> Callable[[Tensor], Tensor]:
    """A step of fused Adam on a batch, eager or through ``torch.compile``."""
    optimizer = torch.optim.Adam(module.parameters(), lr=lr, fused=True)
    chosen = torch.compile(module.loss) if compile else module.loss  # type: ignore[arg-type]

    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss: Tensor = chosen(x)  # type: ignore[operator]
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


class PerItem(Dataset):
    """An image and its label at a time as torchvision's MNIST gives them: by PIL, as floats."""

    def __init__(self, data: Data) -> None:
        from torchvision.transforms import ToTensor

        self.images, self.levels = data.pixels[:, 0].cpu(), data.levels
        self.labels = torch.zeros(len(data)) if data.labels is None else data.labels.cpu()
        self.transform = ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        from PIL import Image

        image = self.transform(Image.fromarray(self.images[row].numpy()))
        image = image if self.levels == 255 else image * (255 / self.levels)
        return image, int(self.labels[row])
