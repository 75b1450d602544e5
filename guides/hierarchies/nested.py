"""Networks for a user's hierarchy, built from the shapes of its latents and features."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from guides.coordinates import Pushforward, shape_of
from guides.gaussian import loc_scale_of_encoder
from ppl_models.coordinates import bare, coordinates, is_free
from ppl_models.networks import MLP, activation_of
from ppl_models.nvae import NVAE
from ppl_models.sites import is_deterministic, prior_trace


class FlatTower(nn.Module):
    """An MLP from a batch's context to features of every latent, ``[B, width]`` each.

    Args:
        context_dim: C, number of inputs per row.
        hidden_dims: widths of its hidden layers.
        widths: widths of the features, one for every latent.
        activation: a name in ``ACTIVATIONS``.
    """

    def __init__(
        self, context_dim: int, hidden_dims: tuple[int, ...], widths: list[int], activation: str
    ) -> None:
        super().__init__()
        self.widths = widths
        self.layers = MLP((context_dim, *hidden_dims, sum(widths)), activation_of(activation))

    def forward(self, context: Tensor) -> tuple[Tensor, ...]:
        return self.layers(context).split(self.widths, -1)


class ConcatLinear(nn.Module):
    """An affine map of the values of some sites, flat and side by side.

    Args:
        shapes: shape of one row of every site, by name.
        width: width of the result, ``[..., width]``.
    """

    def __init__(self, shapes: dict[str, torch.Size], width: int) -> None:
        super().__init__()
        self.shapes = shapes
        self.linear = nn.Linear(sum(shape.numel() for shape in shapes.values()), width)

    def forward(self, *values: Tensor) -> Tensor:
        flat = []
        for (name, shape), value in zip(self.shapes.items(), values, strict=True):
            rows = value.ndim - len(shape)
            if value.shape[rows:] != shape:
                raise ValueError(
                    f"{_seen(name, value.shape[rows:])}, not {list(shape)} as before."
                )
            flat.append(value.reshape(*value.shape[:rows], -1).to(self.linear.weight.dtype))
        lead = torch.broadcast_shapes(*(value.shape[:-1] for value in flat))
        return self.linear(torch.cat([value.expand(*lead, -1) for value in flat], -1))


def _seen(name: str, shape: Sequence[int]) -> str:
    return f"top_down sees '{name}', whose shape is {list(shape)}"


def sites_above(
    model: nn.Module, latents: Mapping[str, torch.Size]
) -> list[dict[str, torch.Size]]:
    """What the posterior of every latent sees of the way down: shapes of one row, by site.

    That is the feature of the latent, ``pyro.deterministic("h1", ...)`` of ``z1``, if the model
    has one, and else the coordinates of all latents above.

    Args:
        model: p.
        latents: shapes of the coordinates of all latents, by name.

    Raises:
        ValueError: If a feature has no row for each datum, or rows of another shape.
    """
    runs = [prior_trace(model, rows).nodes for rows in (2, 3)]
    found, above, features = [], dict[str, torch.Size](), dict[str, torch.Size]()
    for name, site in runs[0].items():
        if name in latents:
            feature = f"h{name.removeprefix('z')}"
            found.append({feature: features[feature]} if feature in features else dict(above))
            above[name] = latents[name]
        elif site["type"] == "sample" and is_deterministic(site):
            features[name] = site["value"].shape[1:]
    for name in {name for sites in found for name in sites if name in features}:
        shape, other = (run[name]["value"].shape for run in runs)
        if shape[:1] != (2,) or other != (3, *shape[1:]):
            raise ValueError(
                f"{_seen(name, shape)} for 2 rows and {list(other)} for 3: a feature has a row "
                "for each datum, all of one shape."
            )
    return found


def gaussian(numbers: Tensor, shape: torch.Size, near: Any = None) -> dist.Distribution:
    """A Gaussian over coordinates of a shape, from a location and log s^2, ``[..., 2K]``.

    They are relative to another Gaussian of these coordinates, ``near``, if there is one.
    """
    loc, scale = (part.reshape(*part.shape[:-1], *shape) for part in loc_scale_of_encoder(numbers))
    if near is not None:
        loc, scale = near.loc + loc, near.scale * scale
    return dist.Normal(loc, scale).to_event(len(shape))


def corrected(prior: Any, numbers: Tensor, residual: bool) -> Any:
    """A Gaussian of a prior's own coordinates, carried to its support.

    Args:
        prior: prior of the latent, given those above; its support may depend on them.
        numbers: location and log s^2, as in ``gaussian``.
        residual: whether these are relative to the prior, if that is Gaussian in its coordinates.
    """
    inside = bare(prior)
    near = inside if residual and isinstance(inside, dist.Normal | dist.LogNormal) else None
    if is_free(prior):
        return gaussian(numbers, prior.event_shape, near)
    transform = coordinates(prior)
    return Pushforward(gaussian(numbers, shape_of(transform, prior), near), [transform])


def check_options(model: nn.Module, tower: tuple[Any, ...], layers: tuple[Any, ...]) -> None:
    """Refuse options of networks that are built for another kind of model.

    Raises:
        ValueError: If one of them is not at its default.
    """
    if isinstance(model, NVAE):
        if layers != ((400,), "relu"):
            raise ValueError("hidden_dims and activation are for other models than an NVAE.")
    elif tower[:4] != (0, 1, 3, True) or any(tower[4:]):
        raise ValueError(
            f"a guide of {type(model).__name__} takes hidden_dims and activation; channels, "
            "cells, attention and flows are for an NVAE."
        )
