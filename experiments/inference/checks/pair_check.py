"""The check of a pair, once on its first batch: what would give a wrong number is refused.

Site names are the whole contract between model and guide. Every objective, estimator and
diagnostic relies on what is checked here, so no step has to look at it again.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import pyro
import torch
from pyro import poutine
from pyro.poutine import runtime
from pyro.poutine.trace_messenger import TraceMessenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import nn

from experiments.inference.checks.index_reads import (
    IndexReads,
    check_home,
    note_reads,
    reads_index,
)
from experiments.inference.checks.local_latents import check_local
from experiments.inference.checks.sites import Check, densities, name_of
from experiments.inference.handlers import InsideObjective
from experiments.inference.pair import Buffers, cuda_devices
from guides import GUIDES
from guides.guide import EffectGuide
from ppl_models import MODELS
from ppl_models.parameters import own_parameters
from ppl_models.program import Batch, evaluating

__all__ = ["check_once", "check_rows", "draws_are_shared", "run_pair"]

_passed: WeakKeyDictionary[Any, WeakKeyDictionary[Any, dict[Any, int]]] = WeakKeyDictionary()
"""Guide -> model -> kind of batch that the pair was checked on -> depth of its plates."""


def check_once(
    model: Any, guide: Any, batch: Batch, enumerated: bool = False, particles: int = 1
) -> int:
    """Refuse a pair that would give a wrong number, the first time that it meets such a batch.

    Args:
        model: p, bare or inside Pyro's handlers.
        guide: q, likewise.
        batch: as ``forward`` takes it; its values matter as little as can be.
        enumerated: whether the objective sums over the latents that are marked
            ``infer={"enumerate": ...}`` in the model.
        particles: how many are drawn at once; several have a dimension of their own.

    Returns:
        How many dimensions the plates of the two take: particles lie outside of them.

    Raises:
        ValueError: If the guide lacks a latent of the model or has one too many; if a plate does
            not rescale a minibatch as the data's does, or a dimension lies in no plate; if
            draws of one lie outside the support of the other.
    """
    if _is_own(model, guide):
        return 1
    try:
        kinds = _passed.setdefault(guide, WeakKeyDictionary()).setdefault(model, {})
    except TypeError:  # what has no weak reference, such as a bound method
        kinds = {}
    apart = particles > 1 and getattr(poutine.unwrap(model), "vectorises", True)
    kind = (enumerated, apart, *(tuple(v) if type(v) is dict else v is None for v in batch))
    kind = (*kind, batch.size)
    if kind not in kinds:
        with _aside(model, guide):
            reads = IndexReads(batch)
            with reads:
                pair = run_pair(model, guide, batch)
            check = Check(model, guide, batch, *pair)
            reads.check(f"{check.model} or {check.guide}", batch.size)
            check.all(enumerated)
            if reads.read:
                note_reads(poutine.unwrap(model), _reads_index(model, pair[1], batch))
            if apart and not check.draws_rows:
                check_particles(model, guide, batch, check.depth)
            kinds[kind] = check.depth
    return kinds[kind]


def _is_own(model: Any, guide: Any) -> bool:
    """Whether both are this project's own, one built from the other: the suite checks them."""
    own = type(model) in MODELS.values() and type(guide) in GUIDES.values()
    return own and guide.model is model


def check_rows(model: Any, guide: Any, data: Any) -> None:
    """``check_once`` before a data set is measured, and that its rows are those the model knows.

    Raises:
        ValueError: As ``check_once``; if a latent is global, or the model reads ``batch.index``
            and the data are others than those it was trained on.
    """
    check_local(model, "what is measured here")
    device = data.pixels.device
    check_once(model, guide, data.batch(torch.arange(min(2, len(data)), device=device)))
    check_home(poutine.unwrap(model), data)


def draws_are_shared(model: Any, guide: Any, data: Any) -> bool:
    """Whether draws of the prior serve every datum, weighed by p(x | z) of the site x alone."""
    check_rows(model, guide, data)
    index = torch.arange(min(2, len(data)), device=data.pixels.device)
    with _aside(model, guide):
        p, _ = run_pair(model, guide, data.batch(index))
    observed = [name for name, site in densities(p).items() if site["is_observed"]]
    return observed == ["x"] and not reads_index(poutine.unwrap(model))


def _reads_index(model: Any, guide_trace: Trace, batch: Batch) -> bool:
    """Whether the model itself does, and not only a guide with rows of its own."""
    latents = {name: site["value"] for name, site in guide_trace.iter_stochastic_nodes()}
    with IndexReads(batch) as reads:
        poutine.condition(model, data=latents)(batch)
    return reads.read


def run_pair(model: Callable, guide: Callable, batch: Batch) -> tuple[Trace, Trace]:
    """One run of guide and model, without densities: the traces of model and guide."""
    if isinstance(poutine.unwrap(guide), EffectGuide):
        guide(batch)
        model_trace, guide_trace = poutine.unwrap(guide).get_traces()
    else:
        guide_trace = poutine.trace(guide).get_trace(batch)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(batch)
    return prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace)


def check_particles(model: Any, guide: Any, batch: Batch, depth: int) -> None:
    """Two particles together have the densities that each of them has alone.

    Raises:
        ValueError: If they do not, so that the model mixes them up.
    """
    outer = pyro.plate("particles", 2, dim=-1 - depth)
    with evaluating(poutine.unwrap(model)):
        p, q = run_pair(outer(model), outer(guide), batch)
        together = densities(p)
        for k in range(2):
            latents = {
                name: site["value"].select(-1 - depth - site["fn"].event_dim, k)
                for name, site in q.iter_stochastic_nodes()
            }
            at = poutine.condition(model, data=latents)
            alone = densities(prune_subsample_sites(poutine.trace(at).get_trace(batch)))
            for name, site in together.items():
                both = site["log_prob"].select(-1 - depth, k).sum()
                one = alone[name]["log_prob"].sum()
                if not torch.isclose(both, one, rtol=1e-3, atol=1e-3, equal_nan=True):
                    raise ValueError(
                        f"{name_of(model)} does not take particles as a dimension of their own: "
                        f"beside another one the density of '{name}' changes. Set vectorises = "
                        "False in the class: particles then follow each other in the batch."
                    )


@contextmanager
def _aside(*programs: Any) -> Iterator[None]:
    """Inside, nothing leaves a trace: not in the random state, a buffer or an outer trace."""
    modules = [p for p in map(poutine.unwrap, programs) if isinstance(p, nn.Module)]
    buffers = Buffers(*modules)
    before = buffers.clone()
    devices = cuda_devices(*(p for module in modules for p in module.parameters()))
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices))
        if any(isinstance(handler, TraceMessenger) for handler in runtime._PYRO_STACK):
            stack.enter_context(poutine.block())
        stack.enter_context(InsideObjective())
        stack.enter_context(own_parameters(*programs))
        yield
    buffers.restore(before)
