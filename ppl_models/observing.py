"""Finds the sites that a model observes, and the name under which each looks up its data."""

from typing import Any

from pyro.poutine.messenger import Messenger

__all__ = ["Asked", "Observing", "check_observed"]


class Asked(dict):
    """A placeholder for observations while a model is described; it has every name."""

    def __init__(self, site: str | None = None) -> None:
        super().__init__()
        self.site = site

    def __missing__(self, site: str) -> "Asked":
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
        nodes: of a trace of the model.
        asked: for each observed site, the name under which it looks up its data; see
            ``Observing``.

    Raises:
        ValueError: Then, naming the site.
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
