"""A step that is not finite never happened, to the bit.

It has drawn its random numbers all the same, so every good step here begins at a seed of its own.
"""

import itertools
import math
from collections.abc import Callable

import pyro
import pytest
import torch

from experiments.inference.average import WeightAverage
from experiments.inference.compiled import graph
from experiments.inference.guard import Diverged, Guard
from experiments.inference.objectives import ELBO, AnalyticKL
from experiments.inference.objectives.nvae import Regularised
from experiments.inference.objectives.regularisers import SpectralNorm, batch_norm_gains
from experiments.inference.optim import adam, adamax, global_parameters, muon
from experiments.inference.svi import SVI, Pair
from guides import GUIDES
from ppl_models import NVAE, PPCA, VAE, Batch

ROWS = 6


@pytest.fixture(autouse=True)
def _without_checks():
    """As all steps but a run's first."""
    with pyro.validation_enabled(False):
        yield


def vae(optimizer, guide: str = "amortized", compile: bool = False, **options) -> SVI:
    model = VAE((1, 4, 4), latent_dim=3, hidden_dims=(5,))
    sizes = {"hidden_dims": (5,)} if guide == "amortized" else {}
    q = GUIDES[guide](model, **sizes).for_data(ROWS)
    return SVI(model, q, optimizer(model, q), ELBO(), compile=compile, **options)


def momentum(model, guide) -> torch.optim.Optimizer:
    return torch.optim.SGD(global_parameters(model, guide), lr=1e-3, momentum=0.9)


def nvae() -> SVI:
    """Adamax, batch norms, power iterations and an average."""
    model = NVAE((1, 4, 4), (1, 1), 2, 2, blocks=1, cells_per_block=1, depthwise=False, crop=0)
    pair = Pair(model, GUIDES["top_down"](model, cells_per_block=1))
    penalties = [SpectralNorm(pair), lambda: batch_norm_gains(pair)]
    objective = Regularised(AnalyticKL(), penalties, 1e-2)
    optimizer = adamax(pair.model, pair.guide)
    return SVI(pair.model, pair.guide, optimizer, objective, average=WeightAverage(pair, 0.9))


CASES: dict[str, Callable[[], SVI]] = {
    "adam": lambda: vae(adam),
    "muon": lambda: vae(muon),
    "momentum": lambda: vae(momentum),
    "a row per datum": lambda: vae(adam, "mean_field"),
    "nvae": nvae,
    "graph": lambda: vae(adam, compile=True),
}


def images(index: torch.Tensor) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(ROWS, 1, 4, 4, generator=generator, dtype=torch.float64).round()
    return Batch(x[index], index, ROWS)


GOOD = [images(torch.tensor(rows)) for rows in ([0, 1, 2], [3, 4, 5], [1, 3, 5], [0, 2])]


def with_bad_pixel(svi: SVI, value: float) -> None:
    batch = images(torch.tensor([4, 5, 0]))
    batch.x[1, 0, 2, 2] = value  # type: ignore[index]
    svi.step(batch)


def with_bad_gradient(svi: SVI, value: float) -> None:
    """One entry of the last parameter's gradient, wherever gradients come from."""
    gradients = svi.gradients

    def poisoned(batch: Batch) -> torch.Tensor:
        loss = gradients(batch)
        gradient = list(svi.parameters)[-1].grad
        values = gradient._values() if gradient.is_sparse else gradient
        values.view(-1)[-1] = value
        return loss

    svi.gradients = poisoned
    svi.step(images(torch.tensor([4, 5, 0])))
    svi.gradients = gradients


INJECTIONS = {
    "nan in the data": lambda svi: with_bad_pixel(svi, math.nan),
    "nan in a gradient": lambda svi: with_bad_gradient(svi, math.nan),
    "inf in a gradient": lambda svi: with_bad_gradient(svi, -math.inf),
    "a square that overflows": lambda svi: with_bad_gradient(svi, 1e200),
}


def everything(svi: SVI) -> dict[str, torch.Tensor]:
    """All tensors that a step changes."""
    found = dict(Pair(svi.model, svi.guide).state_dict())
    for i, optimizer in enumerate(svi.optimizers):
        for j, state in optimizer.state_dict()["state"].items():
            found |= {f"optimizer {i} {j} {name}": value for name, value in state.items()}
    for i, penalty in enumerate(getattr(svi.objective, "penalties", ())):
        if isinstance(penalty, torch.nn.Module):
            found |= {f"penalty {i} {name}": value for name, value in penalty.named_buffers()}
    if svi.average:
        found |= {f"average {n}": value for n, value in svi.average.averaged.state_dict().items()}
    return {name: value.clone() for name, value in found.items()}


def trained(case: str, injection: str | None = None) -> SVI:
    """Four good steps; between them, before and after them two that are not, if asked for."""
    torch.manual_seed(0)
    svi = CASES[case]()
    if injection:
        svi.guard = Guard()
    for step, batch in enumerate(GOOD):
        if injection and step != 2:
            INJECTIONS[injection](svi)
        torch.manual_seed(10 + step)
        svi.step(batch)
    if injection:
        INJECTIONS[injection](svi)
        INJECTIONS[injection](svi)
    return svi


def check_no_trace(case: str, injection: str) -> None:
    found = trained(case, injection)
    wanted, state = everything(trained(case)), everything(found)
    assert set(state) == set(wanted)
    for name, value in wanted.items():
        assert torch.equal(state[name], value), name
        assert state[name].isfinite().all(), name
    assert all(parameter.grad is None for parameter in found.parameters)
    assert found.guard.state_dict() == {"steps": 9, "skipped": 5, "consecutive": 2}


@pytest.mark.parametrize(
    ("case", "injection"),
    [
        *itertools.product(("adam", "muon", "momentum", "a row per datum"), INJECTIONS),
        ("nvae", "nan in the data"),
        ("nvae", "inf in a gradient"),
    ],
)
def test_a_step_that_is_not_finite_never_happened(case, injection):
    check_no_trace(case, injection)


@pytest.mark.parametrize("injection", ["nan in the data", "inf in a gradient"])
def test_a_traced_step_that_is_not_finite_never_happened(injection, as_traced):
    check_no_trace("graph", injection)


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.skipif(not graph.can_compile(), reason="Inductor needs a compiler")
def test_a_compiled_step_that_is_not_finite_never_happened(monkeypatch):
    """Of one shape, for one graph; a gradient of the other injections comes after the graph."""
    monkeypatch.setitem(globals(), "GOOD", [*GOOD[:3], GOOD[0]])
    check_no_trace("graph", "nan in the data")


def test_gradients_are_clipped():
    model = VAE((1, 4, 4), latent_dim=3, hidden_dims=(5,))
    guide = GUIDES["amortized"](model, hidden_dims=(5,))
    pair = Pair(model, guide)
    descent = torch.optim.SGD(pair.parameters(), lr=1.0)
    svi = SVI(model, guide, descent, guard=Guard(0.5))
    before = [parameter.detach().clone() for parameter in pair.parameters()]
    svi.step(GOOD[0])
    moved = [p.detach() - q for p, q in zip(pair.parameters(), before, strict=True)]
    norm = torch.stack([m.norm() for m in moved]).norm()
    assert norm.item() == pytest.approx(0.5, rel=1e-4)


def test_a_norm_that_overflows_is_no_reason_to_skip():
    """Unless gradients are to be scaled by it: every entry and its square are finite."""
    for clip, skipped in ((math.inf, 0), (1.0, 1)):
        model = VAE((1, 4, 4), latent_dim=3, hidden_dims=(5,))
        guide = GUIDES["amortized"](model, hidden_dims=(5,))
        svi = SVI(model, guide, guard=Guard(clip))
        gradients = svi.gradients

        def large(batch, svi=svi, gradients=gradients):
            loss = gradients(batch)
            for parameter in svi.parameters:
                parameter.grad.fill_(1e154)
            return loss

        svi.gradients = large
        svi.step(GOOD[0])
        assert svi.guard.skipped == skipped
        assert all(p.isfinite().all() for p in Pair(model, guide).parameters())


def test_too_many_in_a_row_are_an_error_that_explains_itself():
    svi = vae(adam)
    svi.guard = Guard(most_skipped=3)
    for bad in (True, True, False, True, True):
        with_bad_pixel(svi, math.nan) if bad else svi.step(GOOD[0])
    saved = svi.guard.state_dict()
    assert saved == {"steps": 5, "skipped": 4, "consecutive": 2}
    with pytest.raises(Diverged, match=r"3 steps in a row .* step 4 .*\(row 5\); site z"):
        with_bad_pixel(svi, math.nan)
    assert "\n" not in svi.guard.last
    assert svi.guard.consecutive == 0  # who goes on has as many again
    assert svi.guard.skipped == 5
    svi.guard.load_state_dict(saved)
    svi.step(GOOD[0])
    assert svi.guard.state_dict() == {"steps": 6, "skipped": 4, "consecutive": 0}


def test_a_series_is_explained_once_and_by_its_first_step(monkeypatch):
    from experiments.inference import svi as module

    seen = []
    told = lambda *args: seen.append(args) or "because"  # noqa: E731
    monkeypatch.setattr(module, "explain", told)
    svi = vae(adam)
    svi.guard = Guard()
    svi.step(GOOD[0])
    torch.manual_seed(3)
    state = torch.get_rng_state()
    for _ in range(3):
        with_bad_pixel(svi, math.inf)
    assert svi.guard.last == "step 2 was not finite: because"
    ((*_, batch, random),) = seen
    assert batch.x[1, 0, 2, 2].isinf()
    assert batch.index.tolist() == [4, 5, 0]
    assert torch.equal(random.cpu, state)
    svi.step(GOOD[0])
    with_bad_pixel(svi, math.inf)
    svi.step(GOOD[0])
    assert len(seen) == 2
    assert svi.guard.last == "step 6 was not finite: because"


def test_a_matrix_that_cannot_be_factorised_is_no_reason_to_stop():
    model = VAE((16,), latent_dim=3, hidden_dims=(5,), likelihood="low_rank")
    guide = GUIDES["amortized"](model, hidden_dims=(5,))
    svi = SVI(model, guide, guard=Guard())
    x = torch.rand(ROWS, 16)
    assert svi.step(Batch.of(torch.full_like(x, math.nan))).isnan()
    assert svi.guard.skipped == 1
    assert "a replay of it fails: linalg.cholesky" in svi.guard.last
    assert svi.step(Batch.of(x)).isfinite()


@pytest.mark.gpu
@pytest.mark.compiled
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compile", [False, True])
def test_on_a_gpu_a_step_that_is_not_finite_never_happened(compile):
    """PPCA under its exact guide draws nothing that matters."""
    x = torch.randn(12, 7).cuda()
    finals = []
    for injected in (False, True):
        torch.manual_seed(0)
        model = PPCA(7, 3).cuda()
        guide = GUIDES["exact"](model)
        svi = SVI(
            model,
            guide,
            adam(model, guide),
            guard=Guard(),
            average=WeightAverage(Pair(model, guide), 0.9),
            compile=compile,
        )
        for step in range(12):
            if injected and step in (0, 2, 9):
                svi.step(Batch.of(x * math.nan))
            svi.step(Batch.of(x + step))
        assert svi.guard.skipped == 3 * injected
        finals.append((model.state_dict(), svi.average.weights.state_dict()))
    torch.testing.assert_close(finals[1], finals[0], rtol=1e-9, atol=1e-11)
