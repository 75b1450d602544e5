"""Our SVI and Pyro's: the same losses, gradients and steps under any loss and optimizer."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pytest
import torch
from pyro import infer
from torch import nn

from experiments.inference.fit import fit
from experiments.inference.objectives import ELBO, IWAE, STL, AnalyticKL, DReG, FreeBits, Renyi
from experiments.inference.svi import SVI, Pair
from guides import GUIDES, Amortized
from ppl_models import VAE, Batch

LOSSES: dict[str, Callable[[], Any]] = {
    "ELBO": ELBO,
    "AnalyticKL": lambda: AnalyticKL(2),
    "IWAE": lambda: IWAE(3),
    "DReG": lambda: DReG(3),
    "Renyi": lambda: Renyi(3),
    "STL": STL,
    "FreeBits": FreeBits,
    "Trace_ELBO": infer.Trace_ELBO,
    "Trace_ELBO, particles": lambda: infer.Trace_ELBO(3, 2, vectorize_particles=True),
    "TraceMeanField_ELBO": infer.TraceMeanField_ELBO,
    "TraceGraph_ELBO": infer.TraceGraph_ELBO,
    "TraceEnum_ELBO": lambda: infer.TraceEnum_ELBO(
        max_plate_nesting=1, strict_enumeration_warning=False
    ),
    "RenyiELBO": lambda: infer.RenyiELBO(0.5, 3, 2, vectorize_particles=True),
}


def by_name(name: str) -> dict[str, Any]:
    return {"lr": 0.02 if name.endswith("bias") else 0.01}


OPTIMIZERS: dict[str, Callable[[], pyro.optim.PyroOptim]] = {
    "SGD": lambda: pyro.optim.SGD({"lr": 1e-4, "momentum": 0.9}),
    "Adam": lambda: pyro.optim.Adam({"lr": 0.01}),
    "Adam, by name": lambda: pyro.optim.Adam(by_name),
    "Adam, clipped": lambda: pyro.optim.Adam({"lr": 0.01}, {"clip_norm": 5.0}),
    "ClippedAdam": lambda: pyro.optim.ClippedAdam({"lr": 0.01, "lrd": 0.99}),
    "AdagradRMSProp": lambda: pyro.optim.AdagradRMSProp({"eta": 0.1}),
    "RMSprop": lambda: pyro.optim.RMSprop({"lr": 0.001}),
    "Adadelta": lambda: pyro.optim.Adadelta({"weight_decay": 0.1}),
    "ExponentialLR": lambda: pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, "gamma": 0.9}
    ),
}


def pair() -> Pair:
    torch.manual_seed(0)
    model = VAE((6,), latent_dim=2, hidden_dims=(5,))
    model.unused = nn.Parameter(torch.ones(2))
    return Pair(model, GUIDES["amortized"](model, hidden_dims=(4,)))


def minibatch(step: int = 0) -> Batch:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    index = (torch.arange(10) + 3 * step) % 40
    return Batch(x[index], index, 40)


def under_pyro(trained: Pair, optim: pyro.optim.PyroOptim, loss: Any, steps: int) -> list[float]:
    """Losses of ``pyro.infer.SVI``, whose scheduler moves after every step if there is one."""
    losses = []
    with pyro.get_param_store().scope():
        svi = pyro.infer.SVI(trained.model, trained.guide, optim, loss)
        for step in range(steps):
            torch.manual_seed(step)
            losses.append(svi.step(minibatch(step)))
            if isinstance(optim, pyro.optim.PyroLRScheduler):
                optim.step()
    return losses


def under_ours(
    trained: Pair, optim: Any, loss: Any, steps: int, **options: Any
) -> tuple[SVI, list[float]]:
    svi, losses = SVI(trained.model, trained.guide, optim, loss, **options), []
    for step in range(steps):
        torch.manual_seed(step)
        losses.append(svi.step(minibatch(step)).item() * 40)
        if isinstance(optim, pyro.optim.PyroLRScheduler):
            optim.step()
    return svi, losses


def distance(one: Pair, other: Pair) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_those_of_pyros_svi(name, compile, as_traced):
    """A step of rate one moves by the gradient: Pyro's is that of the sum over N rows."""
    theirs, ours, before = pair(), pair(), pair()
    wanted = under_pyro(theirs, pyro.optim.SGD({"lr": 1.0}), LOSSES[name](), 1)
    loss, descent = LOSSES[name](), partial(torch.optim.SGD, lr=1.0)
    if compile and type(loss).__module__.startswith("pyro."):
        with pytest.warns(UserWarning, match="Pyro's own ELBOs read values in Python"):
            _, found = under_ours(ours, descent, loss, 1, compile=True)
    else:
        _, found = under_ours(ours, descent, loss, 1, compile=compile)
    assert found == pytest.approx(wanted, rel=1e-9)
    for start, mine, other in zip(*(p.parameters() for p in (before, ours, theirs)), strict=True):
        moved = 40 * (mine - start)
        torch.testing.assert_close(moved, other - start, rtol=1e-9, atol=1e-9)
    svi = SVI(before.model, before.guide, loss=LOSSES[name]())
    torch.manual_seed(0)
    assert 40 * svi.evaluate_loss(minibatch()).item() == pytest.approx(wanted[0], rel=1e-9)
    assert len(pyro.get_param_store()) == 0


@pytest.mark.parametrize("loss", ["ELBO", "Trace_ELBO", "RenyiELBO"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_of_pyros_optimizers_are_those_of_pyros_svi(name, loss):
    theirs, ours = pair(), pair()
    wanted = under_pyro(theirs, OPTIMIZERS[name](), LOSSES[loss](), 20)
    _, found = under_ours(ours, OPTIMIZERS[name](), LOSSES[loss](), 20)
    assert found == pytest.approx(wanted, rel=1e-7)
    assert distance(ours, theirs) < 1e-7
    assert distance(ours, pair()) > 1e-4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pyros_optimizers_go_on_from_their_state(name):
    whole, part = pair(), pair()
    optim = OPTIMIZERS[name]()
    svi, _ = under_ours(part, optim, ELBO(), 5)
    state = copy.deepcopy(svi.state_dict())
    names = {name for name, _ in part.named_parameters()}
    assert names - {"model.unused"} <= set(state["optimizers"][0]) <= names
    under_ours(whole, OPTIMIZERS[name](), ELBO(), 10)
    optim = OPTIMIZERS[name]()
    svi = SVI(part.model, part.guide, optim, ELBO())
    svi.load_state_dict(state)
    for step in range(5, 10):
        torch.manual_seed(step)
        svi.step(minibatch(step))
        if svi.optimizers[0].scheduled:
            optim.step()
    assert distance(whole, part) == 0


def test_a_pyro_scheduler_keeps_its_rates_in_fit():
    trained = pair()
    optim = OPTIMIZERS["ExponentialLR"]()
    svi = SVI(trained.model, trained.guide, optim)
    for _ in fit(svi, minibatch().x, epochs=2, batch_size=5):
        optim.step()
    rates = {group["lr"] for group in svi.optimizers[0].param_groups if "lr" in group}
    assert rates == {0.01 * 0.9**2}


def test_a_torch_optimizer_may_be_given_in_four_ways():
    finals = []
    ways: list[Any] = [
        lambda p: torch.optim.Adam(p.parameters(), lr=0.01),
        lambda p: [torch.optim.Adam(p.model.parameters()), torch.optim.Adam(p.guide.parameters())],
        lambda p: torch.optim.Adam,
        lambda p: lambda parameters: torch.optim.Adam(parameters, lr=0.001),
    ]
    for way in ways[1:]:
        trained = pair()
        under_ours(trained, way(trained), None, 3)
        finals.append(trained)
    assert distance(finals[0], finals[1]) == distance(finals[0], finals[2]) == 0
    trained = pair()
    under_ours(trained, ways[0](trained), None, 3)
    assert 0 < distance(trained, pair()) <= 0.031


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (infer.JitTrace_ELBO(), "JitTrace_ELBO traces modules once"),
        (infer.JitTraceEnum_ELBO(), "use compile=True"),
        (infer.ReweightedWakeSleep(), "has two losses"),
        (infer.TraceTailAdaptive_ELBO(2, vectorize_particles=True), "use Renyi"),
        (ELBO, "loss is ELBO: give one of"),
        (lambda model, guide, batch: 0.0, "loss is function"),
        ("elbo", "loss is str"),
    ],
)
def test_other_losses_are_refused(loss, words):
    trained = pair()
    with pytest.raises(TypeError, match=words):
        SVI(trained.model, trained.guide, loss=loss)


def test_other_optimizers_are_refused():
    trained, other = pair(), pair()
    make = partial(SVI, trained.model, trained.guide)
    schedule = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(trained.parameters(), lr=1.0), 1)
    for optim in ("adam", 0.01, schedule, [schedule], lambda parameters: schedule):
        with pytest.raises(TypeError, match=r"optim is .*give a torch\.optim optimizer"):
            make(optim)
    with pytest.raises(ValueError, match="10 of the 10 parameters of optim belong to neither"):
        make(torch.optim.Adam(other.parameters()))
    used = pyro.optim.Adam({"lr": 0.1})
    make(used)
    with pytest.raises(ValueError, match="serves one SVI"):
        make(used)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_have_the_dtype_of_the_parameters(name):
    torch.set_default_dtype(torch.float32)
    trained = pair().double()
    svi = SVI(trained.model, trained.guide, loss=LOSSES[name]())
    assert svi.step(minibatch()).dtype == svi.evaluate_loss(minibatch()).dtype == torch.float64


@pytest.mark.parametrize("name", LOSSES)
def test_a_parameter_outside_of_the_modules_is_refused_under_every_loss(name):
    class Guide(Amortized):
        def forward(self, batch):
            pyro.param("stray", torch.ones(()))
            return super().forward(batch)

    model = VAE((6,), latent_dim=2, hidden_dims=(5,))
    svi = SVI(model, Guide(model, hidden_dims=(4,)), loss=LOSSES[name]())
    for call in (svi.step, svi.evaluate_loss):
        with pytest.raises(ValueError, match=r"pyro\.param 'stray' is not a parameter"):
            call(minibatch())
    assert len(pyro.get_param_store()) == 0
