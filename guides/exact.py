"""q(z | x) = p(z | x), for models with a closed-form posterior."""

import pyro
from torch import Tensor, nn

from guides.guide import Guide
from guides.latents import single_latent
from ppl_models.batch import Batch, data_plate
from ppl_models.program import closed_form


class Exact(Guide):
    r"""The model's own posterior.

    .. math::
        q(z \mid x) = p(z \mid x)

    log p(x, z) - log q(z | x) is then log p(x) for every z, so maximising the ELBO is maximum
    likelihood. It has no parameters of its own.

    Args:
        model: a model with one vector latent and a method ``posterior(x)``.

    Raises:
        ValueError: If the model has anything but one vector latent; if it has no ``posterior``, or
            inherits one and overrides a part of the story.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if not closed_form(model, "posterior"):
            raise ValueError(
                f"exact needs a model with a posterior; {type(model).__name__} has none (a "
                "subclass that overrides a part of the story has to define its own)."
            )
        self._site = single_latent(model, "exact")

    def forward(self, batch: Batch) -> Tensor:
        with data_plate(batch):
            return pyro.sample(self._site, self.model.posterior(batch.only))
