"""Per-datum figures need per-datum latents; global latents are refused."""

from typing import Any

from pyro import poutine

from ppl_models import MODELS
from ppl_models.sites import describe


def check_local(model: Any, what: str) -> None:
    """Refuse a model with global latents."""
    bare = poutine.unwrap(model)
    if type(bare) in MODELS.values():
        return
    for name in describe(bare).of_all_data:
        raise ValueError(
            f"{what} is computed per datum, but '{name}' of {type(bare).__name__} is a global "
            "latent: only the ELBO of the whole training set is defined, which train reports."
        )
