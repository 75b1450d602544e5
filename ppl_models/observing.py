"""Finds the sites that a model observes, their shapes, and the names of their data."""

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor


class Asked(dict):
    """A placeholder for observations while a model is described; it has every name."""

    def __init__(self, site: str | None = None) -> None:
        super().__init__()
        self.site = site

    def __missing__(self, site: Any) -> "Asked":
        if not isinstance(site, str):
            raise TypeError(f"{site} is a part of an array, and there is none yet")
        return Asked(site)

    def get(self, site: str, default: Any = None) -> "Asked":
        return Asked(site)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, site: object) -> bool:
        return True


class Observing(Messenger):
    """Draws the observed sites of a model, and records their names.

    Attributes:
        sites: for each site, the name under which it asks for its observation; None for all of x.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sites = dict[str, str | None]()

    def _pyro_sample(self, msg: Any) -> None:
        if isinstance(msg["value"], Asked):
            self.sites[msg["name"]] = msg["value"].site
            msg["value"], msg["is_observed"] = None, False


def check_observed(nodes: dict[str, Any], asked: dict[str, str | None]) -> None:
    """Refuse partly observed sites (``obs_mask``), and data whose name differs from their site's.

    Args:
        nodes: nodes of a trace of the model.
        asked: for each observed site, the name under which it looks up its data; see
            ``Observing``.

    Raises:
        ValueError: In either case; names the site.
    """
    for name, site in nodes.items():
        sampled = site["type"] == "sample"
        if sampled and site["infer"].get("_deterministic") and f"{name}_unobserved" in nodes:
            raise ValueError(
                f"obs_mask makes a latent '{name}_unobserved' of what is missing in '{name}': "
                "mask the distribution instead, as in Normal(loc, scale).mask(seen).to_event(1)."
            )
        if asked.get(name) not in (None, name):
            raise ValueError(
                f"site '{name}' observes batch.x['{asked[name]}']: give both the same name."
            )


def inner_plates(site: Any) -> list[Any]:
    """The frames of plates inside that of the data, from the left."""
    frames = site["cond_indep_stack"]
    if not any(frame.name == "data" for frame in frames):
        return []
    inner = (f for f in frames if f.vectorized and f.name not in ("data", "particles"))
    return sorted(inner, key=lambda frame: frame.dim)


def row_shape(site: Any) -> torch.Size:
    """The shape of a site's value for one datum: plates from the left, then the event."""
    inner = [frame.full_size for frame in inner_plates(site)]
    return torch.Size([*inner, *site["fn"].event_shape])


def rows_first(site: Any, value: Tensor | None = None) -> Tensor:
    """A site's value, or its mean, with the plates inside that of the data after the rows.

    Args:
        site: a site of a trace.
        value: a value in the shape of the site; by default its own.

    Returns:
        ``[B, *row_shape]``.

    Raises:
        ValueError: If a plate inside that of the data is subsampled: a row has all of it.
    """
    inner, event_dim = inner_plates(site), site["fn"].event_dim
    value = site["value"] if value is None else value
    if not inner:
        return value
    for frame in inner:
        if frame.size != frame.full_size:
            raise ValueError(
                f"the plate '{frame.name}' of site '{site['name']}' is subsampled inside that of "
                "the data: a row that is drawn has all of it."
            )
    data = next(frame.dim for frame in site["cond_indep_stack"] if frame.name == "data")
    value = value.movedim(data - event_dim, 0)
    return value.reshape(len(value), *row_shape(site))
