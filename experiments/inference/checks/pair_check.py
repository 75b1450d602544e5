"""The check of a pair on its first batch, which refuses pairs that would give wrong numbers.

Model and guide only have to agree on site names. Objectives, estimators and diagnostics rely on
this check, so steps do not repeat it.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine import runtime
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.trace_messenger import TraceMessenger
from torch import nn

from experiments.inference.checks.index_reads import (
    IndexReads,
    check_training_data,
    note_reads,
    reads_index,
)
from experiments.inference.checks.observations import check_observations
from experiments.inference.checks.particles import settle_particles, takes_particles
from experiments.inference.checks.rows import (
    check_batch,
    check_densities,
    check_local,
    check_rows_apart,
)
from experiments.inference.checks.sites import Check, densities, name_of, run_pair, trace_of
from experiments.inference.checks.values import check_events, check_kept, versions_of
from experiments.inference.handlers import InsideObjective
from experiments.inference.pair import Buffers
from experiments.inference.summed_runs import check_sums
from guides import GUIDES
from ppl_models import MODELS
from ppl_models.batch import Batch, needs_given
from ppl_models.observing import inner_plates
from ppl_models.parameters import own_parameters
from ppl_models.random_numbers import forked_rng


class Checked(NamedTuple):
    """What objectives need to know about a checked pair."""

    depth: int = 1
    """Number of plate dimensions; particles are outside of them."""

    summed: bool = False
    """Whether latents of the model are summed out."""

    enumerated: bool = False
    """Whether the guide marks latents that it samples to be summed over."""


_passed: WeakKeyDictionary[Any, WeakKeyDictionary[Any, dict[Any, Checked]]] = WeakKeyDictionary()
"""Guide -> model -> (kind of batch, whether it has several rows) -> result of the check."""


def check_once(
    model: Any, guide: Any, batch: Batch, sums: bool = True, particles: int = 1
) -> Checked:
    """Refuse a pair that would give wrong numbers, at the first batch of a kind.

    Args:
        model: p, bare or inside Pyro's handlers.
        guide: q, likewise.
        batch: the argument of ``forward``; the check depends as little as possible on its values.
        sums: whether the objective sums out latents that are marked (``is_summed``), as all of
            ours do.
        particles: number of particles; several have an extra dimension.

    Raises:
        ValueError: If the guide lacks a latent of the model or has one too many; if a plate does
            not rescale a minibatch as the data's does, or a dimension lies in no plate; if
            draws of one lie outside the support of the other; if the batch lacks an observation or
            something given, has one too many, or tensors of different lengths.
    """
    if _is_own(model, guide):
        return Checked()
    _check_story(model, guide)
    try:
        kinds = _passed.setdefault(guide, WeakKeyDictionary()).setdefault(model, {})
    except TypeError:  # not weakly referenceable, such as a bound method
        kinds = {}
    apart = particles > 1 and takes_particles(model)
    parts = (tuple(v) if type(v) is dict else v is None for v in batch)
    kind = (sums, apart, *parts, batch.size, len(batch.index) == batch.size)
    several = len(batch.index) > 1
    if (kind, several) not in kinds:
        check_batch(poutine.unwrap(model), batch)
        with _without_side_effects(model, guide):
            versions = versions_of(batch)
            with IndexReads(batch) as reads, needs_given(batch) as asked:
                pair = run_pair(model, guide, asked)
            check_kept(model, guide, batch, versions)
            check = Check(model, guide, batch, *pair)
            reads.check(f"{check.model} or {check.guide}", batch.size)
            check.all(sums)
            check_events(check)
            if reads.read:
                note_reads(model, guide, pair[1], batch, reads.tables)
            if check.summed:
                check_sums(model, pair[1], batch, check.depth)
            if batch.size > len(batch.index) > 1 and not check.draws_rows:
                check_rows_apart(model, pair[0], batch)
            if apart and not check.draws_rows:
                settle_particles(model, guide, batch, check.depth)
            found = Checked(check.depth, check.summed, check.enumerated)
            if any("outside" in site for site in check.p.values()):
                return found  # not compared row by row; the objective names the value
            kinds[kind, several] = kinds[kind, False] = found  # one row is less than several
    return kinds[kind, several]


def _is_own(model: Any, guide: Any) -> bool:
    """Whether both belong to this project, whose test suite checks them."""
    own = type(model) in MODELS.values() and type(guide) in GUIDES.values()
    return own and guide.model is model


def _check_story(model: Any, guide: Any) -> None:
    """Refuse a guide that runs another model, whose trace would take the place of this one's.

    A twin with the same numbers may run in its place where nothing is trained.
    """
    own, bare = poutine.unwrap(model), poutine.unwrap(guide)
    other = poutine.unwrap(bare.model) if isinstance(bare, GuideMessenger) else own
    if other is own or not (isinstance(own, nn.Module) and isinstance(other, nn.Module)):
        return  # of a function it is not known which model it runs
    trained = torch.is_grad_enabled() and any(p.requires_grad for p in own.parameters())
    if trained or type(other) is not type(own) or not _same_numbers(other, own):
        raise ValueError(
            f"{name_of(guide)} runs the {name_of(other)} that it was built from, which is not the "
            f"{name_of(own)} given here: build the guide from the model that it is used with, or "
            "copy both together, copy.deepcopy((model, guide))."
        )


def _same_numbers(one: nn.Module, other: nn.Module) -> bool:
    first, second = ([*module.parameters(), *module.buffers()] for module in (one, other))
    return [part.shape for part in first] == [part.shape for part in second] and all(
        torch.allclose(a.to(b), b, rtol=0, atol=0, equal_nan=True)
        for a, b in zip(first, second, strict=True)
    )


def check_rows(model: Any, guide: Any, data: Any) -> Checked:
    """The checks before a data set is measured: ``check_once``, and those of measured data alone.

    Raises:
        ValueError: As ``check_once``; if a latent is global, or the model reads ``batch.index``
            and the data are others than those it was trained on; if the guide gives a point, or a
            density is scaled by more than the plates.
    """
    check_local(model, "this estimate")
    batch = next(data.batches(2))
    checked = check_once(model, guide, batch)
    check_training_data(poutine.unwrap(model), poutine.unwrap(guide), data)
    check_observations(model, data)
    check_weights(model, guide, batch)
    return checked


def check_weights(model: Any, guide: Any, batch: Batch) -> None:
    """Refuse a pair from elsewhere whose densities make no importance weights."""
    if not _is_own(model, guide):
        with _without_side_effects(model, guide):
            check_densities(model, guide, batch)


def check_indexed(model: Any, guide: Any, batch: Batch) -> None:
    """Refuse programs that read ``batch.index``, where it is not known which rows a batch has."""
    hidden = _without_side_effects(model, guide)
    with hidden, IndexReads(batch) as reads, needs_given(batch) as asked:
        run_pair(model, guide, asked)
    if reads.read:
        raise ValueError(
            f"{name_of(model)} or {name_of(guide)} looks rows up by batch.index, and the "
            "DataLoader does not tell which they are: have it yield (x, index) with the positions "
            "of the rows."
        )


def draws_are_shared(model: Any, guide: Any, data: Any) -> bool:
    """Whether draws of the prior serve every datum, weighed by p(x | z) of the site x alone."""
    summed = check_rows(model, guide, data).summed
    if summed or data.given or data.site is not None:
        return False
    batch = next(data.batches(2))
    with _without_side_effects(model, guide):
        p, _ = run_pair(model, guide, batch)
        sites = densities(p)
        observed = [name for name, site in sites.items() if site["is_observed"]]
        if observed != ["x"] or any(map(inner_plates, sites.values())):
            return False
        if reads_index(poutine.unwrap(model)):
            return False
        return type(model) in MODELS.values() or _is_likelihood(model, data)


def _is_likelihood(model: Any, data: Any) -> bool:
    """Whether the model observes every row as it would generate it."""
    try:
        drawn = trace_of(model, Batch.draw(2, data.pixels.device))
        likelihood = drawn.nodes["x"]["fn"]
        for k, batch in itertools.product(range(2), data.batches(1000)):
            latents = {
                name: site["value"][k : k + 1].expand(len(batch.index), *site["value"].shape[1:])
                for name, site in drawn.iter_stochastic_nodes()
                if name != "x"
            }
            site = trace_of(poutine.condition(model, data=latents), batch).nodes["x"]
            log_p = scale_and_mask(site["fn"].log_prob(site["value"]), mask=site["mask"])
            alone = likelihood.log_prob(batch.only.unsqueeze(1))[:, k]
            if not torch.allclose(log_p, alone, rtol=1e-3, atol=1e-3):
                return False
    except Exception:  # whatever it does without data
        return False
    return True


@contextmanager
def _without_side_effects(*programs: Any) -> Iterator[None]:
    """Inside, nothing affects the random state, buffers or outer traces."""
    traced = any(isinstance(handler, TraceMessenger) for handler in runtime._PYRO_STACK)
    hidden = poutine.block() if traced else nullcontext()
    own = own_parameters(*programs)
    with Buffers(*programs).kept(), torch.no_grad(), forked_rng(), hidden, InsideObjective(), own:
        yield
