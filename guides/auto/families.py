"""Pyro's autoguides by name: over all latents of a model, global and local."""

from torch import nn

from guides.auto.wrapped import Auto


class AutoDelta(Auto):
    r"""A point for all latents, global and local: the mode of p(z, x) in z.

    .. math::
        q(z \mid x) = \delta(z - \hat z)

    Its objective is log p(x, z), which is not a bound on log p(x).

    Args:
        model: any model with latents in fixed unconstrained coordinates.
        size: N, the number of rows, needed only if the model also has per-datum latents;
            ``for_data(N)`` returns a guide of that size.

    Raises:
        ValueError: If a latent has no fixed unconstrained coordinates.
    """

    objective = "log_joint"

    def __init__(self, model: nn.Module, size: int = 1) -> None:
        super().__init__(model, "auto_delta", size)


class AutoNormal(Auto):
    r"""An independent Gaussian for every coordinate of every latent, global and local.

    .. math::
        q(z) = \prod_k \mathcal N(u_k; m_k, s_k^2), \quad z = t(u)

    Args:
        model: any model with latents in fixed unconstrained coordinates.
        size: N, the number of rows, needed only if the model also has per-datum latents;
            ``for_data(N)`` returns a guide of that size.
        init_scale: initial standard deviation.

    Raises:
        ValueError: If a latent has no fixed unconstrained coordinates.

    References:
        Kucukelbir, Tran, Ranganath, Gelman & Blei (2017).
    """

    def __init__(self, model: nn.Module, size: int = 1, init_scale: float = 0.1) -> None:
        super().__init__(model, "auto_normal", size, init_scale=init_scale)


class AutoMultivariateNormal(Auto):
    r"""One Gaussian with all correlations, over the coordinates of all latents.

    .. math::
        q(z) = \mathcal N(u; m, L L^\top), \quad z = t(u)

    Args:
        model: any model with latents in fixed unconstrained coordinates.
        size: N, the number of rows, needed only if the model also has per-datum latents;
            ``for_data(N)`` returns a guide of that size.
        init_scale: initial standard deviation.

    Raises:
        ValueError: If a latent has no fixed unconstrained coordinates, or the latents have
            more than 10,000 entries in all.
    """

    def __init__(self, model: nn.Module, size: int = 1, init_scale: float = 0.1) -> None:
        super().__init__(model, "auto_multivariate_normal", size, init_scale=init_scale)


class AutoLowRank(Auto):
    r"""One Gaussian with a diagonal plus low-rank covariance.

    .. math::
        q(z) = \mathcal N(u; m, F F^\top + \operatorname{diag} d), \quad z = t(u)

    With K coordinates u in all, F is ``[K, rank]`` and d, which is positive, ``[K]``; t maps
    coordinates to the latents' supports.

    Args:
        model: any model with latents in fixed unconstrained coordinates.
        size: N, the number of rows, needed only if the model also has per-datum latents;
            ``for_data(N)`` returns a guide of that size.
        rank: number of columns of F; 0 for the rounded square root of the number of coordinates.
        init_scale: approximate initial standard deviations.

    Raises:
        ValueError: If a latent has no fixed unconstrained coordinates.
    """

    def __init__(
        self, model: nn.Module, size: int = 1, rank: int = 0, init_scale: float = 0.1
    ) -> None:
        super().__init__(model, "auto_low_rank", size, rank=rank or None, init_scale=init_scale)


class AutoIAF(Auto):
    r"""An inverse autoregressive flow over the coordinates of all latents.

    .. math::
        e \sim \mathcal N(0, I), \quad u = T_n(\dots T_1(e) \dots), \quad z = t(u)

    Every T is an affine autoregressive transform of all coordinates; t maps coordinates to the
    latents' supports.

    Args:
        model: any model with latents in fixed unconstrained coordinates, at least two.
        size: N, the number of rows, needed only if the model also has per-datum latents;
            ``for_data(N)`` returns a guide of that size.
        length: number of transforms.
        width: width of the hidden layer of each transform; 0 for three times the number of
            coordinates, plus one.

    Raises:
        ValueError: If a latent has no fixed unconstrained coordinates, or ``width`` is below the
            number of coordinates.

    References:
        Kingma et al. (2016), inverse autoregressive flow.
    """

    def __init__(self, model: nn.Module, size: int = 1, length: int = 1, width: int = 0) -> None:
        hidden = [width] if width else None
        super().__init__(model, "auto_iaf", size, num_transforms=length, hidden_dim=hidden)
