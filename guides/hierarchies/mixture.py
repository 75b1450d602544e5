"""A mixture of top-down guides of an NVAE that share one encoder."""

import copy
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from guides.hierarchies.top_down import TopDown
from ppl_models.nvae import NVAE


class ConditionalMixture(dist.TorchDistribution):
    r"""The conditional :math:`\sum_s w_s\, q_s(z)` of a mixture, drawn from one component per row.

    Args:
        parts: the S components.
        logits: log w given the latents above, ``[S, B]``, not normalised.
        chosen: the component of every row, ``[B]``; by default drawn from the weights.
    """

    has_rsample = True
    support = constraints.independent(constraints.real, 3)
    arg_constraints: ClassVar[dict] = {}

    def __init__(self, parts: list[Any], logits: Tensor, chosen: Tensor | None = None) -> None:
        self.parts, self.logits, self.chosen = parts, logits, chosen
        super().__init__(parts[0].batch_shape, parts[0].event_shape, validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        if self.chosen is None:
            self.chosen = dist.Categorical(logits=self.logits.detach().mT).sample()
        z = torch.stack([part.rsample(sample_shape) for part in self.parts])
        index = self.chosen[..., None, None, None].expand(1, *z.shape[1:])
        return z.gather(0, index).squeeze(0)

    @property
    def mean(self) -> Tensor:
        weights = self.logits.softmax(0)[..., None, None, None]
        return (weights * torch.stack([part.mean for part in self.parts])).sum(0)

    def log_probs(self, value: Tensor) -> Tensor:
        """log q_s of every component, ``[S, B]`` [nats]."""
        return torch.stack([part.log_prob(value) for part in self.parts])

    def log_prob(self, value: Tensor) -> Tensor:
        return (self.logits.log_softmax(0) + self.log_probs(value)).logsumexp(0)


class TopDownMixture(TopDown):
    r"""A mixture of top-down guides; the latents of a row are drawn from one component.

    .. math::
        q(z \mid x) = \frac1S \sum_{s=1}^S \prod_l q_s(z_l \mid z_{<l}, x)

    The components share the features of x and differ in the layers that compute mu and log sigma.
    Draws are differentiable, since every row is drawn from one component.

    Args:
        model: an NVAE.
        components: number of components (S).
        channels: channels of the encoder at the size of the image; 0 uses the decoder's.
        cells_per_group: encoder cells per group; no effect with a lean NVAE or with a single
            group.
        cells_per_block: encoder cells per block between the image and the finest group; with a
            lean NVAE, at every size of the maps.
        attention: use squeeze-and-excitation in every encoder cell; no effect with a lean NVAE.
        residual: add to the prior's mu and log sigma; otherwise replace them.

    Raises:
        ValueError: If the model is no NVAE, ``components`` is below 1, or ``channels`` or cells
            are too few.

    References:
        Kviman et al. (2023), mixture VAEs.
    """

    def __init__(
        self,
        model: nn.Module,
        components: int = 4,
        channels: int = 0,
        cells_per_group: int = 1,
        cells_per_block: int = 3,
        attention: bool = True,
        residual: bool = True,
    ) -> None:
        if not isinstance(model, NVAE) or components < 1:
            raise ValueError(
                "top_down_mixture takes an NVAE and at least one component, not "
                f"{type(model).__name__} and components={components}."
            )
        super().__init__(model, channels, cells_per_group, cells_per_block, attention, residual)
        for i, sampler in enumerate(self.samplers):
            copies = nn.ModuleList(copy.deepcopy(sampler) for _ in range(components))
            for parameter in copies[1:].parameters():  # equal components would learn the same
                parameter.data.add_(0.01 * torch.randn_like(parameter))
            self.samplers[i] = copies

    def get_posterior(self, name: str, prior: Any) -> Any:
        i, feature = self.feature_of(name)
        parts = [self.relative(i, prior, sampler(feature)) for sampler in self.samplers[i]]
        if i == 0:
            return ConditionalMixture(parts, feature.new_zeros(len(parts), len(feature)))
        q, z = (self.trace.nodes[self.names[i - 1]][key] for key in ("fn", "value"))
        return ConditionalMixture(parts, q.logits + q.log_probs(z), q.chosen)
