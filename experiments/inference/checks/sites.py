"""Compares the sites of a model and a guide: names, plates, scales, supports."""

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from experiments.errors import OnlyAtOwnDraws
from experiments.inference.checks.masks import check_masks
from experiments.inference.checks.supports import check_supports
from ppl_models.batch import Batch
from ppl_models.coordinates import bare, is_point
from ppl_models.sites import is_deterministic, is_local, is_summed


class Check:
    """All checks on one pair of traces."""

    def __init__(
        self, model: Any, guide: Any, batch: Batch, model_trace: Trace, guide_trace: Trace
    ) -> None:
        self.p, self.q, self.batch = densities(model_trace), densities(guide_trace), batch
        self.model, self.guide = name_of(model), name_of(guide)

    def all(self, sums: bool) -> None:
        self.names(sums)
        self.auxiliaries()
        for owner, trace in ((self.model, self.p), (self.guide, self.q)):
            for name, site in trace.items():
                self.plates(owner, name, site)
                self.dimensions(owner, name, site)
        for name in self.latents:
            self.scales(name)
            check_masks(self, name)
            check_supports(self, name)
        self.rows()

    @property
    def depth(self) -> int:
        return max(map(depth_of, (*self.p.values(), *self.q.values())), default=1)

    @property
    def draws_rows(self) -> bool:
        """Whether a plate besides the data's is subsampled, and differs from run to run."""
        frames = (f for site in self.p.values() for f in site["cond_indep_stack"])
        return any(f.name != "data" and f.size != f.full_size for f in frames)

    @property
    def latents(self) -> list[str]:
        """Latents that both sample."""
        return [n for n, site in self.q.items() if n in self.p and not site["is_observed"]]

    @property
    def summed(self) -> bool:
        """Whether latents of the model are to be summed out."""
        return any(n not in self.q and is_summed(site) for n, site in self.p.items())

    @property
    def enumerated(self) -> bool:
        """Whether the guide marks latents that it samples to be summed over."""
        return any(site["infer"].get("enumerate") for site in self.q.values())

    def names(self, sums: bool) -> None:
        """Guide and model sample the same latents, except those that the objective sums out."""
        if "x" in self.latents and not self.p["x"]["is_observed"]:
            raise ValueError(
                f"{self.model} has a latent called 'x', the name of what is observed: rename it."
            )
        for name, site in self.p.items():
            summed = sums and is_summed(site)
            if not site["is_observed"] and name not in self.q and not summed:
                raise ValueError(
                    f"{self.guide} does not sample '{name}', a latent of {self.model}: its "
                    "density would be missing from the bound. Sample it in the guide, under the "
                    "same name." + (SUM_OUT if site["fn"].has_enumerate_support else "")
                )
        for name, site in self.q.items():
            if site["infer"].get("is_auxiliary") or isinstance(bare(site["fn"]), dist.Unit):
                continue
            if site["is_observed"]:
                raise ValueError(
                    f"{self.guide} observes '{name}', whose density would be subtracted from the "
                    "bound: a guide draws latents, given what it reads from batch.x or "
                    "batch.given. A further loss can be a pyro.factor."
                )
            if name not in self.p:
                raise ValueError(
                    f"{self.guide} samples '{name}', which {self.model} does not: give both the "
                    "same name (only a site of which the latents are functions, as in Pyro's "
                    "autoguides, is marked infer={'is_auxiliary': True})."
                )
            if self.p[name]["is_observed"]:
                raise ValueError(
                    f"{self.guide} samples '{name}', which {self.model} observes in this batch."
                )

    def auxiliaries(self) -> None:
        """Latents are functions of auxiliary sites: else log q(z | x) is an unknown integral."""
        drawn = {name: site for name, site in self.q.items() if not site["is_observed"]}
        auxiliary = [name for name, site in drawn.items() if site["infer"].get("is_auxiliary")]
        if auxiliary and not any(is_point(site["fn"]) for site in drawn.values()):
            raise ValueError(
                f"{self.guide} marks '{auxiliary[0]}' as auxiliary, but no latent is a function "
                "of it (a Delta site): log q(z | x) would be an unknown integral over it."
            )

    def rows(self) -> None:
        """What is observed of some of the rows lies in the plate of the data."""
        if len(self.batch.index) == self.batch.size:
            return
        observed = {name: site for name, site in self.p.items() if site["is_observed"]}
        outside = [name for name, site in observed.items() if not is_local(site)]
        others = [
            name
            for name in outside
            if any(f.size == len(self.batch.index) for f in observed[name]["cond_indep_stack"])
        ]
        if others or (outside and len(outside) == len(observed)):
            raise ValueError(
                f"'{(others or outside)[0]}' of {self.model} is not observed in the plate 'data', "
                f"so that {len(self.batch.index)} rows would count as all {self.batch.size}: open "
                "data_plate(batch) around what is drawn for every row."
            )

    def plates(self, owner: str, name: str, site: Any) -> None:
        """The plate of the data has as many rows as the data set, and no other is 'particles'."""
        for frame in site["cond_indep_stack"]:
            if frame.name == "particles":
                raise ValueError(
                    f"'{name}' of {owner} lies in a plate called 'particles', the name of the "
                    "plate around several draws of q: rename it."
                )
            rows = (frame.full_size, frame.size)
            expected = (self.batch.size, len(self.batch.index))
            if frame.name == "data" and rows != expected:
                raise ValueError(
                    f"the plate 'data' of {owner} has {rows[1]} of {rows[0]} rows, the batch "
                    f"{expected[1]} of {expected[0]}: with data_plate(batch) a minibatch is "
                    "rescaled as it should be."
                )

    def dimensions(self, owner: str, name: str, site: Any) -> None:
        """Every dimension of a log-density, masked as it is, lies in a plate."""
        plates = {frame.dim for frame in site["cond_indep_stack"]}
        mask: Any = torch.as_tensor(True if site["mask"] is None else site["mask"])
        shape = torch.broadcast_shapes(site["log_prob"].shape, mask.shape)
        for dim, size in enumerate(shape[::-1], 1):
            if size > 1 and -dim not in plates:
                raise ValueError(
                    f"site '{name}' of {owner} has a dimension of {size} outside of any plate: "
                    "open data_plate(batch) around it, or make it part of the event (to_event)."
                )

    def scales(self, name: str) -> None:
        """Plates rescale a latent in the guide as they do in the model."""
        p, q = (rescaled(trace[name]) for trace in (self.p, self.q))
        if not math.isclose(p, q):
            raise ValueError(
                f"plates rescale '{name}' by {p:g} in {self.model} and by {q:g} in {self.guide}: "
                "open data_plate(batch) in both."
            )


SUM_OUT = (
    " A discrete latent can be summed out: mark it infer={'enumerate': 'parallel'} and use one of "
    "our objectives or pyro.infer.TraceEnum_ELBO."
)


def run_pair(model: Callable, guide: Callable, batch: Batch) -> tuple[Trace, Trace]:
    """One run of guide and model, without densities: the traces of model and guide."""
    if isinstance(poutine.unwrap(guide), GuideMessenger):
        guide(batch)
        model_trace, guide_trace = poutine.unwrap(guide).get_traces()
    else:
        guide_trace = poutine.trace(guide).get_trace(batch)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(batch)
    return prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace)


def name_of(program: Any) -> str:
    bare = poutine.unwrap(program)
    return getattr(bare, "__name__", type(bare).__name__)


def sites_of(trace: Trace, observed: bool = False) -> list[Any]:
    """The sites that have a density, or those of them that are observed, factors among them."""
    return [
        site
        for site in trace.nodes.values()
        if site["type"] == "sample"
        and not is_deterministic(site)
        and (site["is_observed"] or not observed)
    ]


def densities(trace: Trace) -> dict[str, Any]:
    """Sites that have a density, with its value if it can be computed."""
    sites = {site["name"]: dict(site) for site in sites_of(trace)}
    for site in sites.values():
        try:
            site["log_prob"] = site["fn"].log_prob(site["value"])
        except ValueError:  # outside the support
            site["outside"] = True
            site["log_prob"] = torch.zeros(site["fn"].batch_shape)
        except KeyError as error:  # of transforms without an inverse
            raise OnlyAtOwnDraws(
                f"the density of '{site['name']}' is known only at its own draws: use "
                "a flow with an inverse, such as pyro.distributions.transforms.AffineCoupling."
            ) from error
    return sites


def trace_of(program: Callable, batch: Batch) -> Trace:
    """One run of a program, without the rows that its plates subsample."""
    return prune_subsample_sites(poutine.trace(program).get_trace(batch))


def densities_at(model: Any, latents: dict[str, Tensor], batch: Batch) -> dict[str, Any]:
    """The model's sites that have a density, at these latents."""
    return densities(trace_of(poutine.condition(model, data=latents), batch))


def same_density(one: Tensor, other: Tensor) -> bool:
    """Whether two log-densities have the same sum, up to rounding."""
    return bool(torch.isclose(one.sum(), other.sum(), rtol=1e-3, atol=1e-3, equal_nan=True))


def depth_of(site: Any) -> int:
    """Number of dimensions that plates take in a site's density, at least one."""
    frames = site["cond_indep_stack"]
    return max((-frame.dim for frame in frames if frame.vectorized), default=1)


def data_dim(site: Any) -> int | None:
    """The dimension of the plate of the data; None outside of it."""
    return next((f.dim for f in site["cond_indep_stack"] if f.name == "data"), None)


def rescaled(site: Any) -> float:
    """The factor by which plates rescale a log-density."""
    return math.prod(frame.full_size / frame.size for frame in site["cond_indep_stack"])
