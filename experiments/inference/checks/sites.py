"""Compares the sites of a model and a guide: names, plates, scales, supports."""

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from guides.guide import EffectGuide
from ppl_models.batch import Batch
from ppl_models.coordinates import bare, coordinates, family, is_free, support_of
from ppl_models.sites import describe, is_deterministic, is_shown, is_summed


class Check:
    """All checks on one pair of traces.

    Args:
        model: p.
        guide: q.
        batch: what the traces were run on.
        model_trace: of the model's replay.
        guide_trace: of the guide.
    """

    def __init__(
        self, model: Any, guide: Any, batch: Batch, model_trace: Trace, guide_trace: Trace
    ) -> None:
        self.p, self.q, self.batch = densities(model_trace), densities(guide_trace), batch
        self.model, self.guide = name_of(model), name_of(guide)

    def all(self, sums: bool) -> None:
        self.names(sums)
        for owner, trace in ((self.model, self.p), (self.guide, self.q)):
            for name, site in trace.items():
                self.plates(owner, name, site)
                self.dimensions(owner, name, site)
        for name in self.latents:
            self.scales(name)
            self.supports(name)

    @property
    def depth(self) -> int:
        sites = (*self.p.values(), *self.q.values())
        return max((-f.dim for site in sites for f in site["cond_indep_stack"]), default=1)

    @property
    def draws_rows(self) -> bool:
        """Whether a plate besides the data's is subsampled, and differs from run to run."""
        frames = (f for site in self.p.values() for f in site["cond_indep_stack"])
        return any(f.name != "data" and f.size != f.full_size for f in frames)

    @property
    def latents(self) -> list[str]:
        """Latents that both sample."""
        return [name for name, site in self.q.items() if name in self.p and _is_drawn(site)]

    @property
    def summed(self) -> tuple[str, ...]:
        """Latents of the model that are to be summed out."""
        return tuple(n for n, site in self.p.items() if n not in self.q and is_summed(site))

    @property
    def enumerated(self) -> tuple[str, ...]:
        """What the guide samples and marks to be summed over."""
        return tuple(name for name, site in self.q.items() if site["infer"].get("enumerate"))

    def names(self, sums: bool) -> None:
        """Guide and model sample the same latents, except those that the objective sums out."""
        for name, site in self.p.items():
            summed = sums and name in self.summed
            if _is_drawn(site) and name not in self.q and not summed:
                raise ValueError(
                    f"{self.guide} does not sample '{name}', a latent of {self.model}: its "
                    "density would be missing from the bound. Sample it in the guide, under the "
                    "same name." + (SUM_OUT if site["fn"].has_enumerate_support else "")
                )
        for name, site in self.q.items():
            if not _is_drawn(site) or site["infer"].get("is_auxiliary"):
                continue
            if name not in self.p:
                raise ValueError(
                    f"{self.guide} samples '{name}', which {self.model} does not: give both the "
                    "same name, or mark it infer={'is_auxiliary': True}."
                )
            if not _is_drawn(self.p[name]):
                raise ValueError(
                    f"{self.guide} samples '{name}', which {self.model} observes in this batch."
                )

    def plates(self, owner: str, name: str, site: Any) -> None:
        """The plate of the data has as many rows as the data set."""
        for frame in site["cond_indep_stack"]:
            rows = (frame.full_size, frame.size)
            expected = (self.batch.size, len(self.batch.index))
            if frame.name == "data" and rows != expected:
                raise ValueError(
                    f"the plate 'data' of {owner} has {rows[1]} of {rows[0]} rows, the batch "
                    f"{expected[1]} of {expected[0]}: with data_plate(batch) a minibatch is "
                    "rescaled as it should be."
                )

    def dimensions(self, owner: str, name: str, site: Any) -> None:
        """Every dimension of a log-density lies in a plate."""
        plates = {frame.dim for frame in site["cond_indep_stack"]}
        for dim, size in enumerate(site["log_prob"].shape[::-1], 1):
            if size > 1 and -dim not in plates:
                raise ValueError(
                    f"site '{name}' of {owner} has a dimension of {size} outside of any plate: "
                    "open data_plate(batch) around it, or make it part of the event (to_event)."
                )

    def scales(self, name: str) -> None:
        """Plates rescale a latent in the guide as they do in the model."""
        p, q = (_rescaled(trace[name]) for trace in (self.p, self.q))
        if not math.isclose(p, q):
            raise ValueError(
                f"plates rescale '{name}' by {p:g} in {self.model} and by {q:g} in {self.guide}: "
                "open data_plate(batch) in both."
            )

    def supports(self, name: str) -> None:
        """Draws of the guide lie in the prior's support, and the prior's in the guide's."""
        p, q = (trace[name]["fn"] for trace in (self.p, self.q))
        z = self.q[name]["value"]
        if not z.isfinite().all():
            return  # in no support; the guard reports it
        if not _contains(p, z, _far_out(q, z)):
            raise ValueError(
                f"{self.guide} draws '{name}' outside the support of its prior in {self.model} "
                f"({family(p)}): give q that support, or take the guide prior."
            )
        if not _contains(q, p.sample()):
            raise ValueError(
                f"{self.guide} never draws '{name}' where its prior in {self.model} "
                f"({family(p)}) does: give q that support, or take the guide prior."
            )


SUM_OUT = (
    " A discrete latent can be summed out: mark it infer={'enumerate': 'parallel'} and use one of "
    "our objectives or pyro.infer.TraceEnum_ELBO."
)


def check_batch(model: Any, batch: Any) -> None:
    """Refuse a batch whose tensors differ in length, or whose sites differ from the model's.

    Raises:
        ValueError: With the name of the tensor or site.
    """
    x, given = getattr(batch, "x", None), getattr(batch, "given", {})
    there = dict(x) if isinstance(x, dict) else {"x": x}
    for name, values in {**there, **given}.items():
        if isinstance(values, Tensor) and len(values) != len(batch.index):
            raise ValueError(
                f"'{name}' has {len(values)} rows and batch.index {len(batch.index)}: every "
                "tensor of a batch has a row for each datum."
            )
    if not isinstance(x, dict):
        return
    sites = describe(model, None if is_shown(model) else batch)
    observed, summed = sites.observed, sites.summed
    for name in (*(observed.keys() - x - summed.keys()), *(x.keys() - observed)):
        word = "lacks" if name in observed else "has"
        raise ValueError(
            f"the batch {word} '{name}': {name_of(model)} observes {', '.join(observed)}, "
            f"batch.x has {', '.join(x) or 'nothing'}."
        )


def run_pair(model: Callable, guide: Callable, batch: Batch) -> tuple[Trace, Trace]:
    """One run of guide and model, without densities: the traces of model and guide."""
    if isinstance(poutine.unwrap(guide), EffectGuide):
        guide(batch)
        model_trace, guide_trace = poutine.unwrap(guide).get_traces()
    else:
        guide_trace = poutine.trace(guide).get_trace(batch)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(batch)
    return prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace)


def name_of(program: Any) -> str:
    bare = poutine.unwrap(program)
    return getattr(bare, "__name__", type(bare).__name__)


def densities(trace: Trace) -> dict[str, Any]:
    """Sites that have a density, with its value if it can be computed."""
    sites = {
        name: dict(site)
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not is_deterministic(site)
    }
    for site in sites.values():
        if "log_prob" not in site:
            try:
                site["log_prob"] = site["fn"].log_prob(site["value"])
            except ValueError:  # outside the support
                site["log_prob"] = torch.zeros(site["fn"].batch_shape)
    return sites


def _is_drawn(site: Any) -> bool:
    return not site["is_observed"]


def _rescaled(site: Any) -> float:
    return math.prod(frame.full_size / frame.size for frame in site["cond_indep_stack"])


def _contains(distribution: Any, *draws: Tensor) -> bool:
    try:
        support = support_of(distribution)
        return all(bool(support.check(z).all()) for z in draws)
    except NotImplementedError:
        return True


def _far_out(q: Any, like: Tensor) -> Tensor:
    """An extreme point in the support of q; a draw if the reported support is not reliable."""
    if isinstance(bare(q), dist.TransformedDistribution | dist.Delta):
        return like  # a chain of transforms reports the image of the last one's whole domain
    try:
        transform = coordinates(q)
    except NotImplementedError:
        return like
    u = like.new_empty(transform.inverse_shape(like.shape)).normal_()
    return transform((1e6 if is_free(q) else 3.0) * u)
