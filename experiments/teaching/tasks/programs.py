"""The check of a Pyro model and its guide: what `SVI` takes for granted (labs 2 and 3)."""

import re
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from experiments.teaching.answers import asked, derivatives
from experiments.teaching.rubric import Wrong, said, same, with_name
from ppl_models.random_numbers import seeded
from ppl_models.sites import is_deterministic


@with_name
def pair(
    model: Callable[[Tensor], Any],
    guide: Callable[[Tensor], Any],
    x: Tensor,
    trained: str = "both",
    sigma: float | None = None,
    guide_is_prior: bool = False,
) -> None:
    """Check that ``model(x)`` and ``guide(x)`` fit each other, for observations ``[B, D]``.

    Args:
        model: p(x, z), with latents ``z`` and the observation ``x``.
        guide: q(z | x).
        x: some observations.
        trained: both, or model where the guide has no parameters of its own.
        sigma: the standard deviation of the pixels, where it is fixed.
        guide_is_prior: whether q(z | x) has to be N(0, I).
    """
    state: dict[str, Any] = {"params": {}, "constraints": {}}
    p, q = _traces(model, guide, x, state)
    latents = set(p.stochastic_nodes)
    _names(p, latents, {*q.stochastic_nodes, *q.observation_nodes}, x)
    if q.observation_nodes:
        raise Wrong("the guide observes something; only the model does (obs=x).")
    for words, trace, sites in (("model", p, [*latents, "x"]), ("guide", q, latents)):
        for name in sites:
            _event(words, name, trace.nodes[name], x)
    for name in latents:
        if not getattr(q.nodes[name]["fn"], "has_rsample", False):
            raise Wrong(f"'{name}' is not reparametrised in the guide.")
        if guide_is_prior and not _is_standard(q.nodes[name]):
            raise Wrong(f"'{name}' in the guide is not N(0, I).")
    if sigma is not None and not same(p.nodes["x"]["fn"].stddev, torch.full_like(x, sigma)):
        raise Wrong(f"the standard deviation of x in the model is not {sigma:g} (dist.Normal's).")
    shown: list[str] = []
    for words, program, trace, sites in (("model", model, p, ["x"]), ("guide", guide, q, latents)):
        if trained in ("both", words):
            _parameters(words, program, x)
            for name in sites:
                _differentiable(words, name, trace.nodes[name])
            shown += trace.param_nodes
    trainable = {name: value for name, value in state["params"].items() if name in shown}
    _reached(trainable, lambda: _bound(*_traces(model, guide, x, state)))
    said("pair", "same latents, one plate, one event per image, parameters registered")


def _traces(
    model: Callable[[Tensor], Any], guide: Callable[[Tensor], Any], x: Tensor, state: dict
) -> tuple[poutine.Trace, poutine.Trace]:
    """Traces of both with the same draws each time, and with the parameters of a state."""
    with pyro.get_param_store().scope(state), pyro.validation_enabled(False), seeded():
        q = _trace("guide", guide, x)
        p = _trace("model", poutine.replay(model, trace=q), x)
    return _pruned(p), _pruned(q)


def _pruned(trace: poutine.Trace) -> poutine.Trace:
    """A trace without subsamples and deterministic sites, which no density counts."""
    trace = poutine.util.prune_subsample_sites(trace)
    for name in trace.observation_nodes:
        if is_deterministic(trace.nodes[name]):
            trace.remove_node(name)
    return trace


def _trace(words: str, program: Callable, x: Tensor, **options: Any) -> poutine.Trace:
    try:
        return asked("pair", poutine.trace(program, **options).get_trace, x)
    except Wrong as error:
        found = re.search(
            r"inside plate\('(\w+)'\) at site (\w+) dim -1, (\d+) vs (\d+)", str(error)
        )
        if found is None:
            raise Wrong(f"In the {words}: {error}") from error
        plate, site, rows, size = found.groups()
        raise Wrong(
            f"'{site}' in the {words} has {size} entries along its last batch dimension, where "
            f"the plate '{plate}' has {rows}: one vector per image is closed with .to_event(1), "
            "and the plate has the size len(x)."
        ) from error


def _names(p: poutine.Trace, latents: set[str], guided: set[str], x: Tensor) -> None:
    if "x" not in p.nodes or not p.nodes["x"]["is_observed"]:
        raise Wrong('the model needs pyro.sample("x", ..., obs=x): it sees no data.')
    seen = p.nodes["x"]["value"]
    if not (isinstance(seen, Tensor) and torch.equal(seen.to(x), x)):
        raise Wrong("what the model observes at 'x' is not x, the images: obs=x.")
    if not latents:
        raise Wrong('the model draws no latents: it needs z = pyro.sample("z", ...).')
    if latents != guided:
        raise Wrong(
            f"the model's latents are {sorted(latents)}, the guide's are {sorted(guided)}: the "
            "name of a site is the whole contract between them."
        )
    if not all(re.fullmatch(r"z\d*", name) for name in latents):
        raise Wrong(f"the latents are called {sorted(latents)}: call them z, or z0, z1, ...")


def _event(words: str, name: str, site: dict[str, Any], x: Tensor) -> None:
    shape, event = site["fn"].batch_shape, site["fn"].event_shape
    plates = [frame for frame in site["cond_indep_stack"] if frame.vectorized]
    if not plates:
        raise Wrong(
            f"'{name}' in the {words} is in no plate: images are independent, which pyro.plate "
            "says."
        )
    if any(frame.size != len(x) for frame in plates):
        raise Wrong(
            f"the plate of '{name}' in the {words} has size {plates[0].size} for {len(x)} images: "
            "it has the size of the batch, len(x)."
        )
    if torch.as_tensor(site["scale"]).ne(1).any():
        raise Wrong(
            f"'{name}' in the {words} is scaled: a plate of len(x) without subsample_size, and no "
            "poutine.scale."
        )
    if len(shape) > 1 or len(event) != 1:
        raise Wrong(
            f"'{name}' in the {words} has batch shape {list(shape)} and event shape "
            f"{list(event)}: an image has one vector, so close it with .to_event(1)."
        )
    if shape != x.shape[:1]:
        raise Wrong(
            f"'{name}' in the {words} has batch shape {list(shape)} for {len(x)} images: one row "
            "per image."
        )
    if name in ("z", "z0") and words == "model" and not _is_standard(site):
        raise Wrong(f"the prior of {name} in the model is not N(0, I).")


def _is_standard(site: dict[str, Any]) -> bool:
    """Whether a value has the density of N(0, I) at its site."""
    value = site["value"]
    right = torch.distributions.Normal(torch.zeros_like(value), 1.0).log_prob(value).sum(-1)
    return torch.allclose(site["fn"].log_prob(value).to(right), right, rtol=1e-3, atol=1e-3)


def _parameters(words: str, program: Callable, x: Tensor) -> None:
    with pyro.get_param_store().scope(), pyro.validation_enabled(False), seeded():
        found = _trace(words, program, x, param_only=True).nodes
    if not any(site["type"] == "param" for site in found.values()):
        raise Wrong(
            f"the {words} shows Pyro no parameters, so that SVI would train none of them: "
            "register its network with pyro.module."
        )


def _differentiable(words: str, name: str, site: dict[str, Any]) -> None:
    try:
        found = site["fn"].mean
    except NotImplementedError:  # a flow, which may know the density of its last draw alone
        found = site["fn"].log_prob(site["value"]) if site["is_observed"] else site["value"]
    if not found.requires_grad:
        raise Wrong(
            f"no gradient flows from the mean of '{name}' in the {words} to its parameters: "
            ".detach(), .data or no_grad()?"
        )


def _bound(p: poutine.Trace, q: poutine.Trace) -> Tensor:
    with pyro.validation_enabled(False):
        return p.log_prob_sum() - q.log_prob_sum()


def _reached(parameters: dict[str, Tensor], bound: Callable[[], Tensor]) -> None:
    """See that the bound has a gradient in every parameter that changes it."""
    value = bound()
    found = derivatives(value, list(parameters.values())) if parameters else []
    for (name, parameter), gradient in zip(parameters.items(), found, strict=True):
        if gradient is None and _changes(parameter, bound, value):
            raise Wrong(
                f"no gradient reaches {name.replace('$$$', '.')}, although it is used: "
                ".detach(), .data, .item() or no_grad()?"
            )


def _changes(parameter: Tensor, bound: Callable[[], Tensor], value: Tensor) -> bool:
    """Whether the bound is another one with another value of a parameter, which is put back."""
    kept = parameter.detach().clone()
    try:
        with torch.no_grad():
            parameter.add_(1)
        return not torch.equal(bound(), value)
    finally:
        with torch.no_grad():
            parameter.copy_(kept)
