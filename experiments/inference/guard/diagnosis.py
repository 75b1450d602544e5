"""Explains a non-finite step by repeating it eagerly and examining every site."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, Self

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from experiments.errors import said_by
from experiments.inference.objectives.base import Objective, penalties_of
from experiments.inference.objectives.pyro_elbos import add_gradients
from experiments.inference.pair import Buffers, Pair
from experiments.inference.traces import kl_of, traces
from ppl_models.batch import Batch
from ppl_models.parameters import own_parameters
from ppl_models.random_numbers import forked_rng


class RandomState(NamedTuple):
    """Torch's generators: the processor's, and that of the GPU in use, if there is one."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls, like: Tensor) -> Self:
        """As they are, the GPU's being that which ``like`` lies on."""
        cuda = torch.cuda.get_rng_state(like.device) if like.is_cuda else None
        return cls(torch.get_rng_state(), cuda)

    def set(self, like: Tensor) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, like.device)


@contextmanager
def untouched(*modules: Any) -> Iterator[None]:
    """For a trial step: random state and buffers are restored afterwards, nothing is checked."""
    with Buffers(*modules).kept(), forked_rng(), pyro.validation_enabled(False):
        yield


def explain(
    model: Any, guide: Any, objective: Objective, batch: Batch, random: RandomState
) -> str:
    """What is not finite in a step, in one line; empty if the repeated step is finite.

    The step is repeated without side effects. The batch is looked at first, then parameters, then
    the sites in the order of sampling with the range of their distributions' parameters, their
    KLs, the loss, the gradients.

    Args:
        model: p(x, z).
        guide: q(z | x).
        objective: the objective whose loss was not finite.
        batch: the batch of the step.
        random: state of the random generators before the step.
    """
    named = {n: p for n, p in Pair(model, guide).named_parameters() if p.requires_grad}
    found = [about_data(batch), about_parameters(named)]
    with untouched(model, guide, *penalties_of(objective)):
        try:
            random.set(batch.index)
            found.append(about_sites(model, guide, objective, batch))
            random.set(batch.index)
            found.append(about_gradients(model, guide, objective, batch, named))
        except (RuntimeError, ValueError) as error:  # factorisations, draws
            found.append(f"a replay of it fails: {said_by(error)[:200]}")
    return "; ".join(filter(None, found))


def about_data(batch: Batch) -> str:
    """Which rows of the data are not finite, if any are."""
    for x in tree_leaves((batch.x, batch.given)):
        bad = ~x.isfinite()
        if bad.any():
            rows = batch.index[bad.reshape(len(bad), -1).any(1)].unique().tolist()
            return (
                f"the data themselves are {worst(x)} in {int(bad.sum())} of {bad.numel()} numbers "
                f"(row{'s' * (len(rows) > 1)} {some(rows)})"
            )
    return ""


def about_parameters(named: dict[str, nn.Parameter]) -> str:
    bad = [name for name, parameter in named.items() if not parameter.isfinite().all()]
    return f"not finite before it: {some(bad)}" if bad else ""


@torch.no_grad()
def about_sites(model: Any, guide: Any, objective: Objective, batch: Batch) -> str:
    """The first site whose log-density is not finite, or whose KL is not, if any."""
    p, q = traces(model, guide, batch, objective.num_particles)
    latents = dict(q.iter_stochastic_nodes())
    for name, site in p.nodes.items():
        if site["type"] != "sample":
            continue
        found = ""
        if name in latents:
            found = about_density(latents[name], f"{name} of the guide") or about_kl(name, p, q)
        found = found or about_density(site, name)
        if found:
            return found
    return ""


def about_density(site: Any, name: str) -> str:
    density = site["fn"].log_prob(site["value"])
    if density.isfinite().all():
        return ""
    return f"site {name}: log-density {worst(density)} at {described(site['fn'])}"


def about_kl(name: str, p: Trace, q: Trace) -> str:
    """KL(q || p) if it is not finite, where it has a closed form."""
    try:
        kl = kl_of(name, p, q)
    except NotImplementedError:
        return ""
    if kl.isfinite().all():
        return ""
    guided, prior = (described(trace.nodes[name]["fn"]) for trace in (q, p))
    return f"site {name}: KL {worst(kl)} from {guided} to {prior}"


@torch.enable_grad()
def about_gradients(
    model: Any, guide: Any, objective: Objective, batch: Batch, named: dict[str, nn.Parameter]
) -> str:
    """Whether the loss is finite, and the first parameter whose gradient is not."""
    loss, gradients = loss_and_gradients(model, guide, objective, batch, [*named.values()])
    said = [] if loss.isfinite() else [f"the loss is {worst(loss)}"]
    # as the guard has it, the square counts
    bad = {
        name: gradient
        for name, gradient in zip(named, gradients, strict=True)
        if gradient is not None and not gradient.square().isfinite().all()
    }
    if bad:
        name, gradient = next(iter(bad.items()))
        where = ~gradient.square().isfinite()
        kind = f"{worst(gradient)}" if not gradient.isfinite().all() else "too large to be squared"
        more = f", and of {len(bad) - 1} more" if len(bad) > 1 else ""
        said.append(
            f"the gradient of {name} is {kind} in {int(where.sum())} of {where.numel()} "
            f"entries{more}"
        )
    return "; ".join(said)


def loss_and_gradients(
    model: Any, guide: Any, objective: Any, batch: Batch, parameters: Sequence[nn.Parameter]
) -> tuple[Tensor, Sequence[Tensor | None]]:
    """The loss of a step and its gradients; those that the parameters hold stay."""
    if hasattr(objective, "differentiable_loss"):
        ours = isinstance(objective, Objective)  # which call own_parameters themselves
        with nullcontext() if ours else own_parameters(model, guide):
            loss = objective.differentiable_loss(model, guide, batch) / batch.size
            return loss, torch.autograd.grad(loss, parameters, allow_unused=True)
    held = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:  # a loss of Pyro's that gives gradients alone
        loss = add_gradients(objective, model, guide, batch)
        return loss, [parameter.grad for parameter in parameters]
    finally:
        for parameter, gradient in zip(parameters, held, strict=True):
            parameter.grad = gradient


def worst(values: Tensor) -> str:
    """nan, -inf or inf: what is among values that are not all finite."""
    if values.isnan().any():
        return "nan"
    return "-inf" if values.isneginf().any() else "inf"


def some(things: Sequence[Any], most: int = 3) -> str:
    more = f" and {len(things) - most} more" if len(things) > most else ""
    return ", ".join(map(str, things[:most])) + more


def described(distribution: Any) -> str:
    """The name of a distribution and the ranges of its parameters."""
    base = distribution
    while isinstance(
        base,
        (dist.Independent, torch.distributions.TransformedDistribution, dist.MaskedDistribution),
    ):
        base = base.base_dist
    held = {
        name.removeprefix("_unbroadcasted_"): value
        for name, value in vars(base).items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    known = base.arg_constraints or held
    ranges = [f"{name} {ranged(value)}" for name, value in held.items() if name in known]
    return f"{type(base).__name__} with {', '.join(ranges)}" if ranges else type(base).__name__


def ranged(values: Tensor) -> str:
    """From where to where values go, and how many of them are no numbers."""
    finite = values[values.isfinite()]
    bad = values.numel() - finite.numel()
    if not finite.numel():
        return f"all {worst(values)}"
    least, most = finite.min().item(), finite.max().item()
    words = f"{least:.3g}" if least == most else f"from {least:.3g} to {most:.3g}"
    return f"{words} ({bad} of {values.numel()} {worst(values)})" if bad else words
