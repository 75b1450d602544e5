"""Amortised guides of one vector latent: what they share besides their q."""

from typing import Any

from torch import Tensor, nn

from guides.guide import Guide
from guides.latents import vector_latent
from ppl_models.batch import Batch


class EncoderGuide(Guide):
    """A guide whose parameters an encoder computes from x.

    A subclass builds the encoder, defines in ``of`` the density with given parameters, and draws
    z from it in ``forward``.

    Args:
        model: a model with one vector latent.
        name: the name of the guide, for messages.

    Attributes:
        coordinates: the unconstrained coordinates of z, ``[M]``.
        encoder: a network from a batch's context, ``[B, C]``, to the parameters of q.

    Raises:
        ValueError: If the model has anything but one vector latent with fixed coordinates.
    """

    encoder: Any

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__(model)
        self._site, self.coordinates = vector_latent(model, name)
        (self._dim,) = self.coordinates.shape

    def centre(self, mean: Tensor) -> None:
        """Subtract the mean image, ``[*data_shape]``, from the encoder's input."""
        self.encoder.centre(mean.flatten())

    def features(self, batch: Batch) -> tuple[Tensor, ...]:
        """The parameters of q, ``[B, ...]``."""
        return (self.encoder(self.context(batch)),)

    def of(self, parameters: Tensor) -> Any:
        """q with these parameters, one event per row, on the support of z."""
        raise NotImplementedError

    def posterior(self, x: Tensor) -> Any:
        """q(z | x), one event per row, for observations ``[B, *data_shape]``."""
        return self.of(*self.features(Batch.of(x)))
