"""How far does a nonlinear model come without an encoder?

The lab's task 4.3, first half: the decoder of the VAE, trained by Monte-Carlo maximum likelihood.
log p(x) is estimated by averaging p(x | z) over K draws from the prior: the guide ``prior`` under
the objective ``iwae``.

    python -m experiments.nonlinear --data mnist
    python -m experiments.nonlinear --data digits --particles 50
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
    """q(z | x): prior, or any other to compare with it."""
    objective: str | None = "iwae"
    """iwae, or any other that fits the guide."""
    particles: Count | None = 5
    """K, draws from the prior per image."""


def main(config: Config) -> dict[str, Any]:
    return train_vae("nonlinear", config)


if __name__ == "__main__":
    cli(Config, main)
