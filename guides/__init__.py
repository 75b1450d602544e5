"""Guides q(z | x), one per file, and the table of which guide fits which model."""

from torch import nn

from guides.amortized import Amortized
from guides.auto import Auto, AutoDelta, AutoIAF, AutoLowRank, AutoMultivariateNormal, AutoNormal
from guides.exact import Exact
from guides.flow import Flow
from guides.full_rank import FullRank
from guides.guide import Guide
from guides.hierarchies.bottom_up import BottomUp
from guides.hierarchies.mixture import TopDownMixture
from guides.hierarchies.top_down import TopDown
from guides.latents import latents_of
from guides.mean_field import MeanField
from guides.mixture import Mixture
from guides.point import Point
from guides.prior import Prior
from guides.semi_amortized import SemiAmortized
from ppl_models import MODELS
from ppl_models.names import check_fits
from ppl_models.program import closed_form
from ppl_models.sites import describe

__all__ = [
    "GUIDES",
    "PAIRS",
    "Amortized",
    "AutoDelta",
    "AutoIAF",
    "AutoLowRank",
    "AutoMultivariateNormal",
    "AutoNormal",
    "BottomUp",
    "Exact",
    "Flow",
    "FullRank",
    "Guide",
    "MeanField",
    "Mixture",
    "Point",
    "Prior",
    "SemiAmortized",
    "TopDown",
    "TopDownMixture",
    "allowed_guides",
    "check_pair",
]

GUIDES: dict[str, type[Guide]] = {
    "prior": Prior,
    "point": Point,
    "exact": Exact,
    "mean_field": MeanField,
    "full_rank": FullRank,
    "amortized": Amortized,
    "flow": Flow,
    "mixture": Mixture,
    "semi_amortized": SemiAmortized,
    "bottom_up": BottomUp,
    "top_down": TopDown,
    "top_down_mixture": TopDownMixture,
    "auto_delta": AutoDelta,
    "auto_normal": AutoNormal,
    "auto_multivariate_normal": AutoMultivariateNormal,
    "auto_low_rank": AutoLowRank,
    "auto_iaf": AutoIAF,
}
"""Name -> class of guide, built as ``GUIDES[name](model, **options)``."""

GLOBAL = tuple(name for name, kind in GUIDES.items() if issubclass(kind, Auto))
"""Guides of any model with global latents: Pyro's, over all latents at once."""

VECTOR = ("full_rank", "amortized", "flow", "mixture", "semi_amortized")
"""Guides of any model with one latent whose coordinates are a vector."""

HIERARCHY = ("bottom_up", "top_down")
"""Guides of any model with several latents, or one whose coordinates are no vector."""

PAIRS: dict[str, tuple[str, ...]] = {
    "ppca": ("prior", "point", "exact", "mean_field", *VECTOR),
    "vae": ("prior", "point", "mean_field", *VECTOR),
    "nvae": ("prior", "point", "mean_field", "bottom_up", "top_down", "top_down_mixture"),
}
"""Model name -> the guides it may be paired with (the table of ``docs/guides.md``)."""


def allowed_guides(model: nn.Module) -> tuple[str, ...]:
    """The guides that fit a model: from the table, or for a user's model from its latents.

    Returns:
        Names, keys of ``GUIDES``.
    """
    for name, model_class in MODELS.items():
        if type(model) is model_class:
            return PAIRS[name]
    sites = describe(model)
    if sites.of_all_data:
        return GLOBAL
    flat = [len(shape) for shape in sites.latents.values()] == [1]
    exact = ("exact",) if flat and closed_form(model, "posterior") else ()
    try:
        found = list(latents_of(model, "a guide", fixed=False).values())
    except ValueError:
        return ("prior", *exact)
    try:
        latents_of(model, "a guide")
    except ValueError:
        return ("prior", *exact, "top_down")
    more = VECTOR if len(found) == len(found[0].shape) == 1 else HIERARCHY
    names = ("prior", "point", *exact, "mean_field", *more)
    return tuple(name for name in names if not (sites.summed and name == "semi_amortized"))


def check_pair(model: nn.Module, guide: str) -> None:
    """Refuse a guide, by name, that is unknown or does not fit a model."""
    check_fits("guide", guide, GUIDES, allowed_guides(model), type(model).__name__)
