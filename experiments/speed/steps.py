"""A training step of four models, ours beside the same by hand and by Pyro's own SVI."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from experiments.inference.nvae_objective import BalancedKL
from experiments.inference.objectives import IWAE, AnalyticKL, Objective
from experiments.inference.svi import SVI, adam, adamax
from experiments.runs.preset_table import preset_pair
from experiments.speed.handwritten import (
    HandwrittenConvVAE,
    HandwrittenIWAE,
    HandwrittenVAE,
    stepper,
)
from experiments.speed.numpyro_peer import lab_vae_step
from experiments.speed.timing import in_turns
from guides import GUIDES
from ppl_models import VAE, Batch

__all__ = ["SUBJECTS", "Subject", "measure_steps"]

TANH: Any = {"hidden_dims": (200, 200), "activation": "tanh"}


class Subject(NamedTuple):
    """What is trained for the clock, from images ``[B, C, H, W]`` in [0, 1].

    Args:
        rows: B.
        pair: model, guide and objective of ours.
        by_hand: the same in plain PyTorch, and the batch as it takes it, if there is one.
        peer: Pyro's own objective for ``pyro.infer.SVI``, if it has one.
    """

    rows: int
    pair: Callable[[], tuple[Any, Any, Objective]]
    by_hand: Callable[[Tensor], tuple[Any, Tensor]] | None = None
    peer: Callable[[], Any] | None = None


def _vae(objective: Objective, guide: Mapping[str, Any], **options: Any) -> tuple[Any, Any, Any]:
    model = VAE((1, 28, 28), **options)
    return model, GUIDES["amortized"](model, **guide), objective


def _lab() -> tuple[Any, Any, Objective]:
    return _vae(AnalyticKL(), {})


def _iwae(particles: int) -> tuple[Any, Any, Objective]:
    return _vae(IWAE(particles), TANH, latent_dim=50, likelihood="bernoulli", **TANH)


def _conv() -> tuple[Any, Any, Objective]:
    shape = {"latent_dim": 20, "likelihood": "bernoulli", "network": "conv"}
    return _vae(AnalyticKL(), {"encoder": "conv"}, **shape)


def _nvae() -> tuple[Any, Any, Objective]:
    pair = preset_pair("mnist-small").to(memory_format=torch.channels_last)
    return pair.model, pair.guide, BalancedKL(pair.model.groups_per_scale)


def _iwae_peer(particles: int) -> Any:
    return pyro.infer.RenyiELBO(alpha=0, num_particles=particles, vectorize_particles=True)


SUBJECTS: dict[str, Subject] = {
    **{f"lab VAE, B = {rows}": Subject(rows, _lab, lambda x: (HandwrittenVAE(784), x.flatten(1)),
                                       pyro.infer.Trace_ELBO) for rows in (128, 500)},
    **{f"IWAE 2 x 200, K = {k}, B = 100": Subject(
        100, lambda k=k: _iwae(k),  # type: ignore[misc]
        lambda x, k=k: (HandwrittenIWAE(784, k), x.flatten(1)),  # type: ignore[misc]
        lambda k=k: _iwae_peer(k)) for k in (1, 5)},  # type: ignore[misc]
    "convolutional VAE, B = 128": Subject(
        128, _conv, lambda x: (HandwrittenConvVAE((1, 28, 28)), x), pyro.infer.Trace_ELBO),
    "NVAE mnist-small, B = 100": Subject(100, _nvae),
}  # fmt: skip


def measure_steps(
    name: str, images: Tensor, rounds: int, peak: float, optional: bool = True
) -> list[dict[str, Any]]:
    """Times of a subject's step in every way there is, eager hand-written PyTorch being one.

    Args:
        name: in ``SUBJECTS``.
        images: at least B of them, ``[N, 1, 28, 28]``, binary but for the lab's VAE.
        rounds: visits of every way.
        peak: of the machine's matrix products [FLOP/s].
        optional: the peers too.
    """
    subject = SUBJECTS[name]
    x = images[: subject.rows].contiguous()
    batch = Batch(x, torch.arange(len(x), device=x.device), 60000)
    ways: dict[str, Callable[[], Any]] = {}
    if subject.by_hand:
        for compile in (False, True):
            module, given = subject.by_hand(x)
            words = f"hand-written PyTorch, {'torch.compile' if compile else 'eager'}"
            ways[words] = stepper(module.to(x.device), given, compile)
    for compile in (False, True):
        step = _ours(*subject.pair(), batch, compile)
        ways[f"ppl-models, {'compiled' if compile else 'eager'}"] = step
    flops = _flops(ways["ppl-models, eager"])
    if optional and subject.peer:
        ways |= _pyro_ways(subject, batch)
    if optional and name.startswith("lab"):
        numpyro = lab_vae_step(x.flatten(1))
        ways |= {"NumPyro, jit": numpyro} if numpyro else {}
    times = in_turns(ways, rounds)
    reference = next(iter(times.values())).median
    return [
        {"step": name, "way": way, **timing.row(reference),
         "of the matrix products' peak": flops / timing.median / peak}
        for way, timing in times.items()
    ]  # fmt: skip


def _ours(
    model: nn.Module, guide: Any, objective: Objective, batch: Batch, compile: bool
) -> Callable[[], Tensor]:
    device = batch.index.device
    model.to(device), guide.to(device)
    optimizer = (adamax if len(guide_latents(model)) > 1 else adam)(model, guide, 1e-3)
    svi = SVI(model, guide, optimizer, objective, compile=compile)

    def step() -> Tensor:
        with pyro.validation_enabled(False):
            return svi.step(batch)

    return step


def guide_latents(model: Any) -> list[Any]:
    """Shapes of the latents, one for a flat model."""
    return getattr(model, "latent_shapes", [()])


def _pyro_ways(subject: Subject, batch: Batch) -> dict[str, Callable[[], Any]]:
    """``pyro.infer.SVI`` as in Pyro's example of a VAE, and without its checks."""
    assert subject.peer is not None
    ways = {}
    for checked in (True, False):
        model, guide, _ = subject.pair()
        model.to(batch.index.device), guide.to(batch.index.device)
        svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), subject.peer())
        words = "pyro.infer.SVI" if checked else "pyro.infer.SVI, validation off"
        ways[words] = _in_own_store(svi, batch, checked)
    return ways


def _in_own_store(svi: Any, batch: Batch, checked: bool) -> Callable[[], Any]:
    store: Any = None

    @contextmanager
    def own() -> Any:
        nonlocal store
        with pyro.get_param_store().scope(store) as store:
            yield

    def step() -> Any:
        with own(), pyro.validation_enabled(checked):
            return svi.step(batch)

    return step


def _flops(step: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()
