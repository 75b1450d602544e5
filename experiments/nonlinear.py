"""How good is a nonlinear model without an encoder?

Lab 3, first half: the decoder of the VAE, trained by Monte-Carlo maximum likelihood.
log p(x) is estimated by averaging p(x | z) over K draws from the prior: the guide ``prior`` under
the objective ``iwae``.

    python -m experiments nonlinear --data mnist
    python -m experiments nonlinear --data digits --particles 50
    python -m experiments nonlinear --data digits --latent-dim 10 --guide amortized
"""

from dataclasses import dataclass
from typing import Any

from experiments.options.ranges import Count, Fraction
from experiments.runs.cli import cli
from experiments.vae import Config as VAEConfig
from experiments.vae import train_vae


@dataclass(frozen=True)
class Config(VAEConfig):
    guide: str = "prior"
    """q(z | x): prior, or for comparison point, mean_field, full_rank, amortized, flow, mixture or
    semi_amortized. Options of the guide are --guide.OPTION."""
    objective: str | None = "iwae"
    """iwae, or another objective that fits the guide: elbo, elbo_analytic_kl, elbo_free_bits, stl,
    dreg, renyi, miselbo (only mixture) or log_joint (only point)."""
    particles: Count | None = 5
    """K, the number of draws from the guide per image; the guide prior draws from p(z)."""
    warmup: Fraction = 0.0


def main(config: Config) -> dict[str, Any]:
    return train_vae("nonlinear", config)


if __name__ == "__main__":
    cli(Config, main)
