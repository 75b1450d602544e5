"""What every program shares: its one argument, its one plate, and its base class."""

import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_models.parameters import are_captured, own_parameters

__all__ = [
    "Batch",
    "Program",
    "Sites",
    "check_plates",
    "data_plate",
    "describe",
    "device_of",
    "evaluating",
    "is_deterministic",
    "prior_trace",
]

_numbers = itertools.count()
_names: "weakref.WeakKeyDictionary[Program, str]" = weakref.WeakKeyDictionary()


class Batch(NamedTuple):
    """The one argument of every model and guide.

    Args:
        x: observations ``[B, *data_shape]``, or ``None`` to have the model draw them.
        index: positions of the rows in their data set, ``[B]``.
        size: N, the number of rows in the data set.
        repeats: how often the rows follow each other, where particles share a dimension with them.
    """

    x: Tensor | None
    index: Tensor  # type: ignore[assignment]  # hides the tuple's method of that name
    size: int
    repeats: int = 1

    @classmethod
    def of(cls, x: Tensor) -> "Batch":
        """The whole of ``x`` as one batch."""
        return cls(x, torch.arange(len(x), device=x.device), len(x))

    def repeated(self, times: int) -> "Batch":
        """The batch so many times over, ``[times * B]``."""
        x = None if self.x is None else self.x.repeat(times, *(1,) * (self.x.ndim - 1))
        return Batch(x, self.index.repeat(times), self.size, times * self.repeats)

    @classmethod
    def draw(cls, size: int, device: torch.device | str | None = None) -> "Batch":
        """A request for ``size`` rows from the generative story."""
        return cls(None, torch.arange(size, device=device), size)


def data_plate(batch: Batch) -> pyro.plate:
    """The plate of the data: size N, this batch's rows, so log-densities are rescaled by N / B."""
    return pyro.plate("data", batch.size, subsample=batch.index, dim=-1)


class Program(nn.Module):
    """A Pyro program whose parameters live in the module.

    While ``pyro.infer.SVI`` captures parameters, a call shows them to it under a name unique
    to the instance (a copy is another instance). At all other times the global parameter store
    stays untouched, so pairs cannot share or overwrite each other's parameters.

    Attributes:
        vectorises: whether it takes particles as a dimension of their own, before the batch.
    """

    vectorises: bool = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if are_captured():
            name = _names.setdefault(self, f"{type(self).__name__}{next(_numbers)}")
            pyro.module(name, self)
        return super().__call__(*args, **kwargs)


class Sites(NamedTuple):
    """What a model samples: event shapes of the latents, in generative order, and of ``x``.

    ``of_all_data`` names the global latents, those outside the plate of the data.
    """

    latents: dict[str, torch.Size]
    x: torch.Size
    of_all_data: tuple[str, ...] = ()


def prior_trace(model: Callable, size: int = 1, grad: bool = False) -> poutine.Trace:
    """One run of the generative story, hidden from outer handlers and from the random state.

    Args:
        model: p.
        size: rows that are drawn.
        grad: whether what it computes from parameters has a gradient.
    """
    if not isinstance(model, nn.Module):
        return _hidden_trace(model, Batch.draw(size), grad)
    batch = Batch.draw(size, device_of(model))
    with evaluating(model):
        return _hidden_trace(model, batch, grad)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters and buffers lie; of one without any, the processor."""
    parts = itertools.chain(module.parameters(), module.buffers())
    return next((part.device for part in parts), torch.device("cpu"))


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


def _hidden_trace(model: Callable, batch: Batch, grad: bool) -> poutine.Trace:
    hidden = torch.random.fork_rng(devices=[])
    with torch.set_grad_enabled(grad), hidden, poutine.block(), own_parameters(model):
        return poutine.trace(model).get_trace(batch)


def is_deterministic(site: Any) -> bool:
    """Whether a site is a ``pyro.deterministic``, which has no density."""
    return bool(site["infer"].get("_deterministic"))


def check_plates(name: str, site: Any) -> None:
    """Refuse a site of every datum that lies in a second plate.

    Raises:
        ValueError: Then, naming the plate.
    """
    plates = [frame.name for frame in site["cond_indep_stack"]]
    others = [plate for plate in plates if plate not in ("data", "particles")]
    if "data" in plates and others:
        raise ValueError(
            f"site '{name}' lies in the plate '{others[0]}' beside that of the data: make that "
            "dimension part of the event instead (expand, then to_event)."
        )


def describe(model: Callable) -> Sites:
    """Read the sites of a model off one draw from it.

    Raises:
        ValueError: If the model has no site ``x`` or no latent, if it has an ``obs_mask``, or if
            it calls ``pyro.param`` outside its modules.
    """
    nodes = prior_trace(model).nodes
    for name, site in nodes.items():
        if site["type"] == "sample" and is_deterministic(site) and f"{name}_unobserved" in nodes:
            raise ValueError(
                f"obs_mask makes a latent '{name}_unobserved' of what is missing in '{name}': "
                "mask the distribution instead, as in Normal(loc, scale).mask(seen).to_event(1)."
            )
    sites = {
        name: site["fn"]
        for name, site in nodes.items()
        if site["type"] == "sample"
        and not poutine.util.site_is_subsample(site)
        and not (site["is_observed"] and name != "x")
    }
    latents = {name: fn.event_shape for name, fn in sites.items() if name != "x"}
    if "x" not in sites or not latents:
        raise ValueError(
            f"a model samples latents and an observation 'x'; this one samples {list(sites)}."
        )
    of_all_data = tuple(name for name in latents if not _is_local(nodes[name]))
    return Sites(latents, sites["x"].event_shape, of_all_data)


def _is_local(site: Any) -> bool:
    return any(frame.name == "data" for frame in site["cond_indep_stack"])
