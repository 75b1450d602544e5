"""The sites of a model: its latents, its observations, and draws from them."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_models.batch import Batch, needs_given
from ppl_models.coordinates import is_point
from ppl_models.observing import (
    Asked,
    Observing,
    check_observed,
    inner_plates,
    row_shape,
    rows_first,
)
from ppl_models.parameters import device_of, own_parameters
from ppl_models.random_numbers import forked_rng

_given: "weakref.WeakKeyDictionary[Any, dict[str, Tensor]]" = weakref.WeakKeyDictionary()
"""What the data of a model are given: its rows take part in every draw from the model."""


class Sites(NamedTuple):
    """Shapes of what a model samples of every datum: latents in generative order, observations.

    A latent has its event shape; an observation inside an inner plate has the plate's size before
    it, and is listed in ``in_plates``. ``by_name`` tells whether the model looks up observations
    by site, ``batch.obs("x")``, instead of reading ``batch.x`` as a whole. ``summed`` are the
    discrete latents that no guide needs to sample, including named observations that a batch may
    lack; see ``is_summed``. ``of_all_data`` names the global latents, outside the data plate.
    """

    latents: dict[str, torch.Size]
    observed: dict[str, torch.Size]
    by_name: bool
    summed: dict[str, torch.Size]
    of_all_data: tuple[str, ...] = ()
    in_plates: tuple[str, ...] = ()

    @property
    def x(self) -> torch.Size:
        """The shape of the only observation (``ValueError`` if there are several)."""
        return self.observed[self.site]

    @property
    def site(self) -> str:
        """The name of the only observation; x if several sites observe all of ``batch.x``.

        Raises:
            ValueError: If there are several.
        """
        if self.by_name and len(self.observed) > 1:
            names = ", ".join(self.observed)
            raise ValueError(f"one observed site is needed here; the model has {names}.")
        return "x" if "x" in self.observed else next(iter(self.observed))


def request(model: Any, size: int, start: int = 0) -> Batch:
    """A batch that asks a model for ``size`` rows, with the ``given`` of its data.

    Args:
        model: p; the rows are on its device.
        size: B.
        start: the first row of the data whose ``given`` is taken.
    """
    if not isinstance(model, nn.Module):
        return Batch.draw(size)
    batch, like = Batch.draw(size, device_of(model)), _parameter(model)
    given = {}
    for name, values in _given.get(model, {}).items():
        rows = values[((batch.index + start) % len(values)).to(values.device)]
        given[name] = rows.to(like) if rows.is_floating_point() else rows.to(like.device)
    return batch._replace(given=given)


def request_alike(model: Any, size: int, given: dict[str, Tensor] | None = None) -> Batch:
    """As ``request``, all rows with what the first row of ``given`` (or of the data) is given."""
    batch = request(model, size)
    given = batch.given if given is None else given
    alike = {name: rows[:1].expand(size, *rows.shape[1:]) for name, rows in given.items()}
    return batch._replace(given=alike)


def _parameter(model: Any) -> Tensor:
    """A real-valued parameter, used for its dtype and device."""
    parts = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    return next((p.detach() for p in parts if p.is_floating_point()), torch.zeros(()))


def given_rows(model: Any) -> int:
    """Number of rows of what is given with a model's data; 0 where nothing is."""
    return max((len(values) for values in _given.get(model, {}).values()), default=0)


def is_shown(model: Any) -> bool:
    """Whether ``describe`` has told a model what is given with its data."""
    return model in _given


def observation(model: Any) -> str:
    """The name of the only site that a model observes; an error if there are several."""
    return describe(model).site


def simulate(model: Any, size: int, start: int = 0) -> tuple[Any, Batch]:
    """Draw ``size`` rows from the generative story: the trace, and the draws as a batch."""
    sites, asked = describe(model), request(model, size, start)
    with needs_given(asked) as batch:
        trace = poutine.trace(model).get_trace(batch)
    x = {name: rows_first(trace.nodes[name]) for name in sites.observed}
    like = _parameter(model)  # a data set holds integers as floats too
    x = {name: v if v.is_floating_point() else v.to(like) for name, v in x.items()}
    return trace, Batch.of(x if sites.by_name else next(iter(x.values())), asked.given)


def example(model: Any) -> Batch:
    """A row of zeros in the shapes that a model observes, with the ``given`` of its data."""
    sites, batch = describe(model), request(model, 1)
    like = _parameter(model)
    x = {name: like.new_zeros(1, *shape) for name, shape in sites.observed.items()}
    return batch._replace(x=x if sites.by_name else next(iter(x.values())))


def prior_trace(model: Callable, size: int = 1, grad: bool = False) -> poutine.Trace:
    """One run of the generative story, hidden from outer handlers and from the random state."""
    try:
        with torch.set_grad_enabled(grad):
            return hidden_trace(model, request(model, size))
    except (AttributeError, TypeError) as error:
        if "NoneType" not in str(error):
            raise
        raise ValueError(
            f"{type(model).__name__} computes with None in a draw, where batch.x is None "
            f"({error}). Take the value from an option, or give it with the data."
        ) from error


@contextmanager
def evaluating(program: Any) -> Iterator[None]:
    """Inside, a module is in evaluation mode."""
    parts = list(program.modules()) if isinstance(program, nn.Module) else []
    modes = [(part, part.training) for part in parts]
    if parts:
        program.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def hidden_trace(model: Callable, batch: Batch) -> poutine.Trace:
    """One run in evaluation mode, hidden from outer handlers and from the random state."""
    own = own_parameters(model)
    with evaluating(model), forked_rng(), poutine.block(), own, needs_given(batch) as asked:
        return poutine.trace(model).get_trace(asked)


def is_deterministic(site: Any) -> bool:
    """Whether a site has no density: a ``pyro.deterministic``, or one that Pyro reparametrised."""
    return getattr(site["fn"], "_mask", None) is False and is_point(site["fn"])


def is_summed(site: Any) -> bool:
    """Whether a latent is marked to be summed out exactly, unless the guide samples it.

    The mark is Pyro's, ``infer={"enumerate": "parallel"}``, at a site of finitely many values.
    """
    infer = site["infer"]
    marked = infer.get("enumerate") == "parallel" and not infer.get("num_samples")
    finite = getattr(site["fn"], "has_enumerate_support", False)
    return marked and finite and not site["is_observed"]


def is_local(site: Any) -> bool:
    """Whether a site is in the data plate, with one value per datum."""
    return any(frame.name == "data" for frame in site["cond_indep_stack"])


def check_plates(name: str, site: Any) -> None:
    """Refuse a per-datum site that is in a second plate.

    Raises:
        ValueError: If there is one; the message names the plate.
    """
    plates = [frame.name for frame in site["cond_indep_stack"]]
    others = [plate for plate in plates if plate not in ("data", "particles")]
    if "data" in plates and others:
        raise ValueError(
            f"site '{name}' is in the plate '{others[0]}' besides the data plate: make that "
            "dimension part of the event instead (expand, then to_event)."
        )


def describe(model: Callable, data: Any = None) -> Sites:
    """Read the sites of a model off one draw from it.

    Args:
        model: p.
        data: a data set or batch whose ``given`` the model needs; that is kept for later draws.

    Returns:
        The event shapes of latents (in generative order) and observations, and which latents are
        global or summed out; see ``Sites``.

    Raises:
        ValueError: If the model has no observation or no latent, if it has an ``obs_mask``, if it
            reads something that is not given, or if it calls ``pyro.param`` outside its modules.
    """
    if getattr(data, "given", None):
        _given[model] = data.given
    batch, observing = request(model, 1), Observing()
    try:
        with torch.no_grad(), evaluating(model):
            nodes = hidden_trace(observing(model), batch._replace(x=Asked())).nodes
    except Exception:  # the model changes x before it observes it
        observing.sites.clear()
    if not observing.sites:
        nodes = prior_trace(model).nodes
    asked = observing.sites or {"x": None}
    check_observed(nodes, asked)
    sites = {
        name: site["fn"].event_shape
        for name, site in nodes.items()
        if site["type"] == "sample"
        and not poutine.util.site_is_subsample(site)
        and not (site["is_observed"] and name not in asked)
    }
    by_name = any(name is not None for name in asked.values())
    observed = {name: row_shape(nodes[name]) for name in sites if name in asked}
    summed = {
        name: shape
        for name, shape in sites.items()
        if is_summed(nodes[name]) and (by_name or name not in asked)
    }
    latents = {n: shape for n, shape in sites.items() if n not in asked and n not in summed}
    if not observed or not (latents or summed):
        raise ValueError(
            "a model samples latents and an observation, obs=batch.x or obs=batch.obs('name'); "
            f"this one samples {list(sites)}."
        )
    of_all_data = tuple(name for name in latents if not is_local(nodes[name]))
    in_plates = tuple(name for name in observed if inner_plates(nodes[name]))
    return Sites(latents, observed, by_name, summed, of_all_data, in_plates)
