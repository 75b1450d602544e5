"""How good is a nonlinear model without an encoder?

Lab 3, first half: the decoder of the VAE, trained by Monte-Carlo maximum likelihood.
log p(x) is estimated by averaging p(x | z) over K draws from the prior: the guide ``prior`` under
the objective ``iwae``.

    python -m experiments nonlinear --data mnist
    python -m experiments nonlinear --data digits --particles 50
    python -m experiments nonlinear --data digits --latent-dim 10 --guide amortized
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from experiments.options.ranges import Count
from experiments.options.vae import VAEOptions
from experiments.runs.cli import cli
from experiments.vae import train_vae


@dataclass(frozen=True)
class Config(VAEOptions):
    OF_DATA: ClassVar = {"digits": {"batch_size": 50}}
    guide: str = "prior"
    """q(z | x): prior, or another guide for comparison."""
    objective: str | None = "iwae"
    """Objective: iwae, or another one that fits the guide."""
    particles: Count | None = 5
    """K, the number of draws from the prior per image."""


def main(config: Config) -> dict[str, Any]:
    return train_vae("nonlinear", config)


if __name__ == "__main__":
    cli(Config, main)
