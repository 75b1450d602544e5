"""What a few steps that are not finite cost a run: a VAE's ELBO with and without them."""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import pyro
import torch

from experiments.data import Data, load
from experiments.inference.fit import fit
from experiments.inference.guard import Guard
from experiments.inference.objectives import AnalyticKL
from experiments.inference.optim import adam
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import VAE, Batch


class Trial(NamedTuple):
    """ELBOs of several seeds without a guard or an injection, and of one more with both.

    In nats per data point, on the test split; ``skipped`` steps of the last one did not pass.
    """

    without: list[float]
    injected: float
    skipped: int


def trial(
    seeds: Sequence[int] = range(5),
    data_steps: Collection[int] = (0, 7, 30, 31, 32),
    gradient_steps: Collection[int] = (12, 50),
    epochs: int = 15,
) -> Trial:
    """Train a VAE on digits for every seed, and for the next one with NaN in such steps.

    Binary pixels: under a Gaussian some seeds collapse, and the spread would hide anything.

    Args:
        seeds: of the runs without.
        data_steps: from 0, in which a pixel is no number.
        gradient_steps: in which an entry of a gradient is infinite.
        epochs: of a batch of 100.
    """
    without = [elbo_after(seed, epochs)[0] for seed in seeds]
    injected, skipped = elbo_after(max(seeds) + 1, epochs, data_steps, gradient_steps)
    return Trial(without, injected, skipped)


def elbo_after(
    seed: int,
    epochs: int,
    data_steps: Collection[int] = (),
    gradient_steps: Collection[int] = (),
) -> tuple[float, int]:
    """The ELBO after training [nats per data point], and how many steps were skipped."""
    torch.manual_seed(seed)
    train, test = load("digits", binarize="static")
    model = VAE(tuple(train.image_shape), latent_dim=5, hidden_dims=(50,), likelihood="bernoulli")
    guide = GUIDES["amortized"](model, hidden_dims=(50,))
    svi = SVI(model, guide, adam(model, guide, 0.01), AnalyticKL())
    if data_steps or gradient_steps:
        svi.guard = Guard()
    _inject(svi, set(data_steps), set(gradient_steps))
    with pyro.validation_enabled(False):
        for _ in fit(svi, train, epochs, 100, seed=seed):
            pass
    return _elbo(svi, test), svi.guard.skipped if svi.guard else 0


def _inject(svi: SVI, data_steps: set[int], gradient_steps: set[int]) -> None:
    gradients, steps = svi.gradients, iter(range(10**9))

    def poisoned(batch: Batch) -> torch.Tensor:
        step = next(steps)
        if step in data_steps:
            x = batch.x.clone()  # type: ignore[union-attr]
            x.view(-1)[step] = math.nan
            batch = batch._replace(x=x)
        loss = gradients(batch)
        if step in gradient_steps:
            next(p for p in svi.parameters if p.grad is not None).grad.view(-1)[0] = math.inf  # type: ignore[union-attr]
        return loss

    svi.gradients = poisoned


def _elbo(svi: SVI, data: Data, draws: int = 20) -> float:
    batch = Batch.of(data.fixed().like(svi.model).observations().view(-1, *data.image_shape))
    torch.manual_seed(0)
    losses = torch.stack([svi.evaluate_loss(batch) for _ in range(draws)])
    return -float(losses.mean())
