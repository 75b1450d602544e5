"""``pyro.infer.SVI`` on a VAE written as in Pyro's example: ``pyro.module``, ``PyroOptim``."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor


def pyro_steps(
    module: Any, x: Tensor, likelihood: Callable[[Tensor], Any], particles: int | None
) -> dict[str, Callable[[], float]]:
    """A step with Pyro's checks, as they are by default, and one without.

    The module has an ``encoder`` to loc and log s^2, and a ``decoder`` whose output ``likelihood``
    turns into p(x | z). The loss is the ELBO, or the bound of IWAE with K = ``particles``.
    """
    loss: Any = pyro.infer.Trace_ELBO()
    if particles is not None:
        loss = pyro.infer.RenyiELBO(
            alpha=0, num_particles=particles, max_plate_nesting=1, vectorize_particles=True
        )

    def model(x: Tensor) -> None:
        pyro.module("vae", module)
        with pyro.plate("data", len(x)):
            latents = x.new_zeros(len(x), module.latent_dim)
            z = pyro.sample("z", dist.Normal(latents, torch.ones_like(latents)).to_event(1))
            pyro.sample("x", likelihood(module.decoder(z)), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("vae", module)
        with pyro.plate("data", len(x)):
            loc, log_square = module.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, (0.5 * log_square).exp()).to_event(1))

    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), loss)
    return {
        "pyro.infer.SVI": _in_own_store(svi, x, True),
        "pyro.infer.SVI, validation off": _in_own_store(svi, x, False),
    }


def _in_own_store(svi: Any, x: Tensor, checked: bool) -> Callable[[], float]:
    store: Any = None

    def step() -> float:
        nonlocal store
        with pyro.get_param_store().scope(store) as store, pyro.validation_enabled(checked):
            return svi.step(x)

    return step
