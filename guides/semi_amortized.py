"""Amortised inference, followed by a few steps of classical inference."""

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from guides.encoder import EncoderGuide
from guides.gaussian import loc_scale_of_encoder
from ppl_models.batch import Batch, data_plate
from ppl_models.networks import MLP, activation_of
from ppl_models.sites import describe, evaluating

BETA1, BETA2, EPS = 0.9, 0.99, 1e-8


class SemiAmortized(EncoderGuide):
    r"""A Gaussian from an encoder, refined by k gradient steps per datum.

    .. math::
        \lambda_0 = \operatorname{encoder}(x), \quad
        \lambda_{i+1} = \lambda_i + \eta\, \operatorname{Adam}(\nabla_\lambda L(x; \lambda_i)),
        \quad q(z \mid x) = \mathcal N(z; \lambda_k)

    L is the plain ELBO with one draw per step and the model in evaluation mode; handlers around
    the guide do not affect it. By default the encoder is trained as if the steps were a constant
    shift (straight-through); with ``through`` gradients pass through the steps. Under a prior with
    constrained support, the Gaussian is defined in unconstrained coordinates and mapped to the
    support.

    Args:
        model: a model with one vector latent.
        steps: number of gradient steps per datum (k).
        step_size: step size of these gradient steps (eta).
        through: differentiate through the gradient steps.
        hidden_dims: widths of the encoder's hidden layers.
        activation: activation of the encoder.

    Raises:
        ValueError: If the model has anything but one vector latent with fixed coordinates, or one
            besides it that is summed out; if ``steps`` is below 1 or ``step_size`` not above 0; if
            ``activation`` is unknown.

    References:
        Kim, Wiseman, Miller, Sontag & Rush (2018); Marino, Yue & Mandt (2018), with other updates.
    """

    def __init__(
        self,
        model: nn.Module,
        steps: int = 5,
        step_size: float = 0.05,
        through: bool = False,
        hidden_dims: tuple[int, ...] = (400,),
        activation: Literal["relu", "tanh", "silu", "gelu"] = "relu",
    ) -> None:
        if steps < 1 or not step_size > 0:
            raise ValueError(f"steps={steps} must be at least 1, step_size={step_size} above 0.")
        super().__init__(model, "semi_amortized")
        if summed := describe(model).summed:
            raise ValueError(
                f"semi_amortized cannot sum out {', '.join(summed)} in its gradient steps."
            )
        self.local_steps, self.step_size, self.through = steps, step_size, through
        layers = (self.context_dim, *hidden_dims, 2 * self._dim)
        self.encoder = MLP(layers, activation_of(activation))
        self.like_model()

    def bound(self, parameters: Tensor, batch: Batch) -> Any:
        """The plain ELBO of every datum, summed, from one draw [nats]."""
        q = dist.Normal(*loc_scale_of_encoder(parameters)).to_event(1)
        with poutine.block():
            with data_plate(batch):
                u = q.rsample()
            z = self.coordinates.at(u)
            conditioned = poutine.condition(self.model, data={self._site: z})
            trace = poutine.trace(conditioned).get_trace(batch)
        log_joint = trace.log_prob_sum() * (len(batch.index) / batch.size)
        return log_joint + (q.entropy() + self.coordinates.volume(u, z)).sum()

    @torch.enable_grad()
    def refined(self, parameters: Tensor, batch: Batch) -> Tensor:
        """The encoder's output ``[B, 2M]`` after the steps."""
        through = self.through and parameters.requires_grad
        start = parameters if through else parameters.detach().requires_grad_()
        at, m, v = start, torch.zeros_like(start), torch.zeros_like(start)
        for t in range(1, self.local_steps + 1):
            (g,) = torch.autograd.grad(self.bound(at, batch), at, create_graph=through)
            m, v = m.lerp(g, 1 - BETA1), v.lerp(g * g, 1 - BETA2)
            step = (m / (1 - BETA1**t)) / ((v / (1 - BETA2**t) + EPS**2).sqrt() + EPS)
            at = at + self.step_size * step
            if not through:
                at = at.detach().requires_grad_()
        return at if through else parameters + (at - start).detach()

    def features(self, batch: Batch) -> tuple[Tensor, ...]:
        """Mean and log s^2 after the steps, ``[B, 2M]``."""
        parameters = self.encoder(self.context(batch))
        with evaluating(self.model):
            return (self.refined(parameters, batch),)

    def of(self, parameters: Tensor) -> dist.Distribution:
        """A density that is Gaussian in the coordinates of z."""
        q = dist.Normal(*loc_scale_of_encoder(parameters)).to_event(1)
        return self.coordinates.push(q)

    def forward(self, batch: Batch) -> Tensor:
        q = self.of(*self.seen(batch))
        with data_plate(batch):
            return pyro.sample(self._site, q)
