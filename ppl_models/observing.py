"""Seeing which sites a model observes, and by which names it asks for their observations."""

from typing import Any

from pyro.poutine.messenger import Messenger

__all__ = ["Asked", "Observing", "check_observed"]


class Asked(dict):
    """Stands for observations while a model is described: any site's are there, without values."""

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
    """Draws what a model observes, and notes which sites these are.

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
    """Refuse observations that are partly drawn, or that go by another name than their site.

    Args:
        nodes: of a trace of the model.
        asked: for each observed site, the name that it asks for, see ``Observing``.

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
