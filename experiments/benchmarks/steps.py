"""A training step of four models, ours beside the same by hand and by Pyro's own SVI."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks.handwritten import (
    HandwrittenConvVAE,
    HandwrittenIWAE,
    HandwrittenVAE,
    stepper,
)
from experiments.benchmarks.numpyro_peer import lab_vae_step
from experiments.benchmarks.preset_table import preset_pair
from experiments.benchmarks.pyro_peer import pyro_steps
from experiments.benchmarks.timing import elsewhere, in_turns
from experiments.inference.objectives import IWAE, AnalyticKL, Objective
from experiments.inference.optim import adam, adamax
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import NVAE, VAE, Batch

TANH: Any = {"hidden_dims": (200, 200), "activation": "tanh"}


class Subject(NamedTuple):
    """A pair to be timed on B = ``rows`` images ``[B, C, H, W]`` in [0, 1], and its peers.

    ``by_hand`` makes the same in plain PyTorch, and the batch in the form that it takes.
    ``likelihood`` makes p(x | z) of the decoder's output for ``pyro.infer.SVI``, which draws
    K = ``particles``.
    """

    rows: int
    pair: Callable[[], tuple[Any, Any, Objective]]
    by_hand: Callable[[Tensor], tuple[Any, Tensor]] | None = None
    likelihood: Callable[[Any, Tensor], Any] | None = None
    particles: int | None = None


def _vae(objective: Objective, guide: Mapping[str, Any], **options: Any) -> tuple[Any, Any, Any]:
    model = VAE((1, 28, 28), **options)
    return model, GUIDES["amortized"](model, **guide), objective


def lab_pair() -> tuple[Any, Any, Objective]:
    """The lab's VAE: model, guide and objective."""
    return _vae(AnalyticKL(), {})


def iwae_pair(particles: int) -> tuple[Any, Any, Objective]:
    """Two layers of 200 units each way, K draws."""
    return _vae(IWAE(particles), TANH, latent_dim=50, likelihood="bernoulli", **TANH)


def _handwritten_iwae(particles: int, x: Tensor) -> tuple[Any, Tensor]:
    return HandwrittenIWAE(784, particles), x.flatten(1)


def _conv() -> tuple[Any, Any, Objective]:
    shape = {"latent_dim": 20, "likelihood": "bernoulli", "network": "conv"}
    return _vae(AnalyticKL(), {"encoder": "conv"}, **shape)


def _nvae() -> tuple[Any, Any, Objective]:
    pair = preset_pair("mnist-small").to(memory_format=torch.channels_last)
    return pair.model, pair.guide, AnalyticKL()


def _normal(module: Any, loc: Tensor) -> Any:
    return dist.Normal(loc, module.log_sigma.exp()).to_event(1)


def _pixels(module: Any, logits: Tensor) -> Any:
    return dist.Bernoulli(logits=logits).to_event(1)


def _image(module: Any, logits: Tensor) -> Any:
    return dist.Bernoulli(logits=logits.squeeze(1)).to_event(3)


SUBJECTS: dict[str, Subject] = {
    **{f"lab VAE, B = {rows}": Subject(
        rows, lab_pair, lambda x: (HandwrittenVAE(784), x.flatten(1)), _normal)
        for rows in (128, 500)},
    **{f"IWAE 2 x 200, K = {k}, B = 100": Subject(
        100, partial(iwae_pair, k), partial(_handwritten_iwae, k), _pixels, k) for k in (1, 5)},
    "convolutional VAE, B = 128": Subject(
        128, _conv, lambda x: (HandwrittenConvVAE((1, 28, 28)), x), _image),
    "NVAE mnist-small, B = 32": Subject(32, _nvae),
}  # fmt: skip


def measure_steps(name: str, images: Tensor, rounds: int, peak: float) -> list[dict[str, Any]]:
    """Times of a subject's step by every implementation; the first is the reference.

    Images ``[N, 1, 28, 28]`` are grey for the lab's VAE and binary for the others; ``peak`` is the
    rate of the machine's matrix products [FLOP/s].
    """
    subject = SUBJECTS[name]
    x = images[: subject.rows]
    ways: dict[str, Callable[[], Any]] = {}
    if subject.by_hand:
        for compile in (False, True):
            module, given = subject.by_hand(x)
            words = f"hand-written PyTorch, {'torch.compile' if compile else 'eager'}"
            ways[words] = partial(stepper(module.to(x.device), 1e-3, compile), given)
    for compile in (False, True):
        step = our_step(*subject.pair(), x, compile)
        ways[f"ppl-models, {'compiled' if compile else 'eager'}"] = step
    with FlopCounterMode(display=False) as counter:
        ways["ppl-models, eager"]()
    flops = counter.get_total_flops()
    if name.startswith("lab"):
        numpyro = lab_vae_step(x.flatten(1))
        ways |= {"NumPyro, jit": numpyro} if numpyro else {}
    with elsewhere(peers, name, x.cpu(), x.device) as others:
        times = in_turns(ways | others, rounds)
    reference = next(iter(times.values())).median
    return [
        {
            "step": name,
            "way": way,
            **timing.row(reference),
            "of the matrix products' peak": flops / timing.median / peak,
        }
        for way, timing in times.items()
    ]


def peers(name: str, x: Tensor, device: torch.device) -> dict[str, Callable[[], Any]]:
    """Ways of ``pyro.infer.SVI`` to take a subject's step on a device, if it can."""
    subject = SUBJECTS[name]
    if not subject.by_hand or not subject.likelihood:
        return {}
    module, given = subject.by_hand(x.to(device))
    likelihood = partial(subject.likelihood, module.to(device))
    return pyro_steps(module, given, likelihood, subject.particles)


def our_step(
    model: nn.Module, guide: Any, objective: Objective, x: Tensor, compile: bool
) -> Callable[[], Tensor]:
    """A step of a pair on one batch ``[B, C, H, W]`` of 60000, without Pyro's checks."""
    batch = Batch(x, torch.arange(len(x), device=x.device), 60000)
    model.to(x.device), guide.to(x.device)
    optimizer = (adamax if isinstance(model, NVAE) else adam)(model, guide, 1e-3)
    svi = SVI(model, guide, optimizer, objective, compile=compile)

    def step() -> Tensor:
        with pyro.validation_enabled(False):
            return svi.step(batch)

    return step
