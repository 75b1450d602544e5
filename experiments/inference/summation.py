"""Exact summation over discrete latents, which gives the same model without them.

A site marked ``infer={"enumerate": "parallel"}`` that the guide does not sample takes all of its
values at once, each along a dimension of its own, left of all plates. Sites that share such
dimensions form a group. The joint density of a group with the marked sites summed out is split by
the chain rule in the order of the story, observations last,

    log p(a, b, x) = log p(a) + log p(b | a) + log p(x | a, b),

so every objective finds a prior for each latent, and a likelihood.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask
from pyro.ops import packed
from pyro.ops.contract import contract_tensor_tree
from pyro.ops.rings import LogRing
from pyro.poutine import runtime
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from experiments.inference.checks.sites import sites_of
from experiments.inference.handlers import TemperKL

Packed = Any
"""A tensor without dimensions of one, the others named: Pyro's ``_pyro_dims``."""


class SumOut(EnumMessenger):
    """Give every marked latent all of its values at once; ``summed_out`` then sums over them.

    Args:
        depth: number of dimensions that plates take, that of particles included.
    """

    def __init__(self, depth: int) -> None:
        super().__init__(first_available_dim=-1 - depth)

    def _pyro_sample(self, msg: Any) -> None:
        super()._pyro_sample(msg)
        if "_enumerate_dim" in msg["infer"]:
            msg["infer"]["summed"] = True  # TemperKL leaves it alone


class Marginal(dist.TorchDistribution):
    """A site with others summed out; its density is known at the site's own value.

    Args:
        log_density: the log-density at the value of the site, unscaled [nats].
        event_shape: the event shape of the site.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, log_density: Tensor, event_shape: torch.Size) -> None:
        self.log_density = log_density
        super().__init__(log_density.shape, event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_density


def summed_out(trace: Trace) -> Trace:
    """The trace of a model run inside ``SumOut``, densities computed, its marked sites gone.

    Latents keep their names. What is observed in a group becomes one site, ``x`` if that is among
    them. Both are scaled as they were; masks act before the sum.

    Raises:
        ValueError: If sites of a group are rescaled differently, as a global latent and the rows
            of a minibatch are: a sum over values has one scale.
    """
    story, found = _Story(trace), trace.copy()
    for group in story.groups():
        group.check_scales()
        known, seen = None, list(group.summed)
        for part in (*([site] for site in group.latents), group.observed):
            if part:
                seen = seen + part
                total = story.total(seen)
                for site in part:
                    del found.nodes[site["name"]]
                site = story.site(part, total if known is None else total.less(known))
                found.nodes[site["name"]] = site
                known = total
    for name in [n for n, site in found.nodes.items() if _is_summed(site)]:
        del found.nodes[name]
    return found


def unmasked(trace: Trace) -> Trace:
    """The trace, its summed sites without masks: their probabilities sum to one."""
    for site in trace.nodes.values():
        while _is_summed(site) and isinstance(site["fn"], dist.MaskedDistribution):
            site["fn"] = site["fn"].base_dist
    return trace


def _is_summed(site: Any) -> bool:
    return site["type"] == "sample" and "_enumerate_dim" in site["infer"]


class _Logs(LogRing):
    """Sums of products of numbers that are held as logs.

    Pyro's own multiplies exponentials, which underflow where two factors disagree strongly.
    """

    def sumproduct(self, terms: list[Packed], dims: set[str]) -> Packed:
        story = dict.fromkeys("".join(term._pyro_dims for term in terms))
        for dim in [dim for dim in reversed(story) if dim in dims]:  # children before parents
            joined = _added([term for term in terms if dim in term._pyro_dims])
            at, names = joined._pyro_dims.index(dim), joined._pyro_dims.replace(dim, "")
            terms = [term for term in terms if dim not in term._pyro_dims]
            terms.append(_named(joined.logsumexp(at), names))
        return _added(terms)


def _added(terms: list[Packed]) -> Packed:
    first, *others = packed.broadcast_all(*terms)
    return _named(sum(others, first), first._pyro_dims)


def _named(term: Tensor, dims: str) -> Packed:
    named: Packed = term[...]  # a tensor of its own, since the names are its attribute
    named._pyro_dims = dims
    return named


class _Total(NamedTuple):
    """A log-density, and the plates that it lies in."""

    log_density: Packed
    plates: frozenset[str]

    def less(self, known: "_Total") -> "_Total":
        other = _Logs().product(known.log_density, known.plates - self.plates)
        return _Total(_added([self.log_density, _named(-other, other._pyro_dims)]), self.plates)


class _Group(NamedTuple):
    """Sites that share summed dimensions, in the order of the story."""

    summed: list[Any]
    latents: list[Any]
    observed: list[Any]

    def check_scales(self) -> None:
        tempered = any(isinstance(handler, TemperKL) for handler in runtime._PYRO_STACK)
        first, *others = [*self.summed, *(self.observed or ([] if tempered else self.latents))]
        for site in others:
            scales = first["scale"], site["scale"]
            differ = scales[0] is not scales[1] and scales[0] != scales[1]
            if differ.any() if isinstance(differ, Tensor) else differ:
                said = [
                    "a weight per row" if isinstance(one, Tensor) and one.ndim else f"{one:g}"
                    for one in scales
                ]
                raise ValueError(
                    f"'{first['name']}' is summed out but rescaled by {said[0]}, "
                    f"'{site['name']}' by {said[1]}: a sum over values has one scale. "
                    "Put both into the same plates, or use the whole data set as one batch."
                )


class _Story:
    """The sites of a trace as packed tensors, whose dimensions have names.

    Args:
        trace: a trace whose log-densities are computed.
    """

    def __init__(self, trace: Trace) -> None:
        trace.symbolize_dims()
        self.plates, self.dims = trace.plate_to_symbol, trace.symbol_to_dim
        self.sites = {site["name"]: site for site in sites_of(trace)}
        self.terms = {name: self._term(site) for name, site in self.sites.items()}

    def _term(self, site: Any) -> Packed:
        mask = None if _is_summed(site) else site["mask"]
        log_density = scale_and_mask(site["unscaled_log_prob"], mask=mask)
        return packed.pack(log_density[...], site["infer"]["_dim_to_symbol"])

    def _summed(self, name: str) -> set[str]:
        return set(self.terms[name]._pyro_dims) - set(self.plates.values())

    def groups(self) -> Iterator[_Group]:
        """All sites that have summed dimensions, those together that are connected by them."""
        found: list[tuple[set[str], set[str]]] = []
        for name in self.terms:
            dims, names = self._summed(name), {name}
            for group in [group for group in found if group[0] & dims]:
                found.remove(group)
                dims, names = dims | group[0], names | group[1]
            if dims:
                found.append((dims, names))
        for _, names in found:
            sites = [site for name, site in self.sites.items() if name in names]
            rest = [site for site in sites if not _is_summed(site)]
            yield _Group(
                [site for site in sites if _is_summed(site)],
                [site for site in rest if not site["is_observed"]],
                [site for site in rest if site["is_observed"]],
            )

    def total(self, sites: list[Any]) -> _Total:
        """The joint log-density of some sites, summed over all values of the summed ones."""
        tree: OrderedDict[frozenset[str], list[Packed]] = OrderedDict()
        for site in sites:
            plates = frozenset(
                self.plates[f.name] for f in site["cond_indep_stack"] if f.vectorized
            )
            tree.setdefault(plates, []).append(self.terms[site["name"]])
        dims = set().union(*(self._summed(site["name"]) for site in sites))
        ring = _Logs()
        parts = contract_tensor_tree(tree, dims, ring=ring)
        plates = frozenset.intersection(*parts)
        flat = [(term, outer - plates) for outer, terms in parts.items() for term in terms]
        return _Total(_added([ring.product(*pair) for pair in flat]), plates)

    def site(self, part: list[Any], total: _Total) -> dict[str, Any]:
        """Some sites of a group as one, with this joint log-density."""
        first = next((site for site in part if site["name"] == "x"), part[0])
        frames = [f for f in first["cond_indep_stack"] if f.vectorized]
        frames = [f for f in frames if self.plates[f.name] in total.plates]
        sizes = [1] * max((-frame.dim for frame in frames), default=0)
        for frame in frames:
            sizes[frame.dim] = frame.size
        log_density = packed.unpack(total.log_density, self.dims).expand(sizes)
        log_prob = scale_and_mask(log_density, scale=first["scale"])
        return {
            **first,
            "fn": Marginal(log_density, first["fn"].event_shape),
            "mask": None,
            "cond_indep_stack": tuple(frames),
            "unscaled_log_prob": log_density,
            "log_prob": log_prob,
            "log_prob_sum": log_prob.sum(),
        }
