"""q(z | x) = p(z): no inference at all."""

from pyro.distributions.torch_distribution import TorchDistributionMixin

from guides.guide import EffectGuide

__all__ = ["Prior"]


class Prior(EffectGuide):
    r"""The prior as its own guide, an effect handler that leaves every prior as it is.

    .. math::
        q(z \mid x) = p(z)

    With the objective ``iwae`` this is Monte-Carlo maximum likelihood: log p(x) is estimated by
    averaging p(x | z) over draws from p(z). It has no parameters.
    """

    objective = "iwae"

    def get_posterior(self, name: str, prior: TorchDistributionMixin) -> TorchDistributionMixin:
        return prior
