"""q(z | x) = p(z), without inference."""

from pyro.distributions.torch_distribution import TorchDistributionMixin

from guides.guide import EffectGuide


class Prior(EffectGuide):
    r"""The prior as guide: an effect handler that leaves every prior unchanged.

    .. math::
        q(z \mid x) = p(z)

    With the objective ``iwae`` this is Monte-Carlo maximum likelihood: log p(x) is estimated by
    averaging p(x | z) over draws from p(z). It has no parameters.
    """

    objective = "iwae"

    def get_posterior(self, name: str, prior: TorchDistributionMixin) -> TorchDistributionMixin:
        return prior
