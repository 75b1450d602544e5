"""Pyro's Laplace approximation, with a check that the mode is reached."""

from typing import Any

import pyro
import torch
from torch import Tensor

from experiments.errors import TrainingError
from experiments.inference.objectives import ELBO
from guides.auto import Auto
from ppl_models.batch import Batch

NEAR = 1e-3
"""Maximum gain of a further Newton step [nats]."""


def curvature_at_mode(guide: Auto, batch: Batch, steps: int = 2000) -> Auto:
    """Find the mode by L-BFGS, and make the guide the Gaussian with the curvature at the mode.

    Args:
        guide: ``auto_laplace``, near the mode; changed in place.
        batch: all data.
        steps: maximum number of steps of L-BFGS.

    Raises:
        TrainingError: If the curvature is not positive definite, or a further Newton step would
            gain more than a thousandth of a nat.
    """
    loss = ELBO()
    optimizer = torch.optim.LBFGS(
        guide.parameters(),
        max_iter=steps,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def energy() -> Tensor:
        optimizer.zero_grad()
        value = loss.differentiable_loss(guide.model, guide, batch)
        value.backward()
        return value

    with pyro.validation_enabled(False):
        optimizer.step(energy)
        energy()
    gradient: Any = next(guide.parameters()).grad
    try:
        with pyro.get_param_store().scope():
            guide.auto = guide.auto.laplace_approximation(batch)
    except torch.linalg.LinAlgError:
        raise TrainingError(
            "auto_laplace: L-BFGS found no mode (the curvature is not positive definite); fewer "
            "columns (--latent-dim) or another guide may do."
        ) from None
    L = guide.auto.scale[:, None] * guide.auto.scale_tril
    gain = 0.5 * (L.mT @ gradient).square().sum().item()  # of a Newton step
    if gain > NEAR:
        raise TrainingError(
            f"auto_laplace: the mode is not reached, a Newton step would gain {gain:.3g} nats; "
            "more --steps may help."
        )
    return guide
