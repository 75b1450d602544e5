"""Every cell of the table of kinds is right, by a truth of its own, or refused by name."""

import functools
import math

import pyro
import pytest
import torch
import torch._inductor.config
from pyro import poutine
from pyro.poutine.util import prune_subsample_sites

from experiments.evaluation import khat as khat_module
from experiments.evaluation.ais import annealed_bound
from experiments.evaluation.bayesian.to_arviz import to_arviz
from experiments.evaluation.bounds import per_image
from experiments.evaluation.calibration import calibrate
from experiments.evaluation.gaps import local_elbo
from experiments.evaluation.khat import khat, weights_of_draws
from experiments.inference.compiled import gradients, graph
from experiments.inference.fit import fit
from experiments.inference.objectives import STL
from experiments.inference.svi import SVI
from guides import GUIDES
from guides.guide import EffectGuide
from ppl_models.sites import describe
from tests.shared.quadrature import OnGrid, Quadrature, tail_index
from tests.shared.table_of_kinds import COLUMNS, KINDS, PAGE, REFUSED, made, table

ROWS = 4
"""Data that are measured."""


@functools.cache
def fitted(kind):
    """A model of a kind, a few of its data, and a guide that was fitted to them."""
    model, data = made(kind)
    model.requires_grad_(False)
    data = data if describe(model).of_all_data else data.rows(ROWS)
    torch.manual_seed(3)
    guide = model.guide()
    svi = SVI(model, guide, torch.optim.Adam(guide.parameters(), 0.1), STL(4))
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(svi.optimizers[0], 100)
    with pyro.validation_enabled(False):
        for _ in range(100):
            svi.step(data.batch(torch.arange(len(data))))
            rate.step()
    return model, data, guide.requires_grad_(False)


@functools.cache
def on_grid(kind):
    """The truth about those data."""
    model, data, _ = fitted(kind)
    return Quadrature(model, data.batch(torch.arange(len(data))))


def latents_in(q, model, particles, rows):
    """Draws of every latent, ``[S, B, M]``, a global one ``[S, 1, M]``."""
    sites = describe(model)
    return {
        name: q.nodes[name]["value"].reshape(
            particles, -1 if name in sites.of_all_data else rows, m
        )
        for name, (m,) in sites.latents.items()
    }


def written_out(model, guide, batch):
    """The ELBO of a draw [nats per data point], from densities and traces of Pyro's."""
    if isinstance(guide, EffectGuide):
        guide(batch)
        _, q = guide.get_traces()
    else:
        q = poutine.trace(guide).get_trace(batch)
    q = prune_subsample_sites(q)
    q.compute_log_prob()
    z = latents_in(q, model, 1, len(batch.index))
    rows = (model.log_prior(z, batch) + model.log_likelihood(z, batch)).sum()
    total = rows * batch.size / len(batch.index) - q.log_prob_sum()
    total = total + model.log_global(z).sum() if hasattr(model, "log_global") else total
    return total / batch.size


def train(kind):
    """Loss and gradients are those of the densities written out, and the loss falls."""
    model, data = made(kind)
    guide = model.guide()
    svi = SVI(model, guide, lambda parameters: torch.optim.Adam(parameters, 0.03))
    rows = len(data) if describe(model).of_all_data else 5
    batch = data.batch(torch.arange(rows) * 7 % len(data))
    torch.manual_seed(4)
    loss = svi.gradients(batch)
    found = [parameter.grad.clone() for parameter in svi.parameters]
    torch.manual_seed(4)
    told = -written_out(model, guide, batch)
    wanted = torch.autograd.grad(told, svi.parameters, materialize_grads=True)
    torch.testing.assert_close(loss, told, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found, [*wanted], rtol=1e-9, atol=1e-9)
    losses = [progress.loss for progress in fit(svi, data, 30, batch_size=rows)]
    assert sum(losses[-5:]) < sum(losses[:5])


def steps(kind, compile):
    """Losses and gradients of five batches."""
    model, data = made(kind)
    guide, found = model.guide(), []
    svi = SVI(model, guide, compile=compile)
    for k in range(5):
        rows = torch.arange(len(data) if describe(model).of_all_data else 4)
        batch = data.batch((rows + 2 * k) % len(data))
        for parameter in svi.parameters:
            parameter.grad = None
        torch.manual_seed(k)
        found.append(svi.gradients(batch))
        found += [parameter.grad.clone() for parameter in svi.parameters]
    assert not compile or svi.compiled.reasons == []
    return found


def compiled(kind):
    """The graph of a step is the eager step for every batch."""
    with pytest.MonkeyPatch.context() as patch:  # Inductor takes its time
        patch.setattr(gradients, "compiled", lambda traced, values: traced)
        patch.setattr(gradients, "can_compile", lambda: True)
        torch.testing.assert_close(steps(kind, True), steps(kind, False), rtol=1e-9, atol=1e-9)


def iw_bound(kind):
    """The truth under the prior, whose weights are bounded; under the kind's guide no more.

    Where the prior hardly ever meets a datum, the truth under the guide.
    """
    model, data, guide = fitted(kind)
    truth, exact = on_grid(kind).evidence, False
    for q in (GUIDES["prior"](model), guide):
        torch.manual_seed(5)
        values = per_image(model, q, data, 10_000)
        size, above = values["effective_sample_size"], values["iw_bound"] - truth
        error = (1 / size - 1e-4).clamp(min=0).sqrt()
        assert (above < 4 * error + 1e-9).all()
        assert (values["elbo"] <= values["iw_bound"]).all()
        if size.min() > 100 and not exact:
            assert (above > -4 * error - 1e-9).all()
            exact = True
    assert exact


def ais(kind):
    model, data, guide = fitted(kind)
    torch.manual_seed(6)
    batch = data.batch(torch.arange(len(data)))
    chains = annealed_bound(model, guide, batch, chains=32, steps=30, leapfrog=4)
    relative = (chains.log_weights - chains.bound).exp()
    error = relative.std(0) / math.sqrt(len(relative))
    assert ((chains.bound - on_grid(kind).evidence).abs() < 4 * error + 1e-9).all()
    assert (error < 0.2).all()


def gaps(kind):
    """The best ELBO of the guide's family on every datum is that of a search on the grid."""
    model, data, guide = fitted(kind)
    torch.manual_seed(7)
    most = 300 if isinstance(guide, EffectGuide) else 100  # its steps draw once
    found = local_elbo(model, guide, data, draws=2000, most=most).elbo
    full = getattr(guide, "_full", True)
    best = on_grid(kind).best(full)
    assert (found < best + 0.02).all()
    assert (found - best).abs().max() < 0.05


def tail(kind):
    """Weights are those of the densities written out, and k-hat is that of PSIS."""
    model, data, guide = fitted(kind)
    batch, seen, weigh = data.batch(torch.arange(len(data))), [], khat_module.log_weights
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            khat_module, "log_weights", lambda p, q, b: (seen.append(q), weigh(p, q, b))[1]
        )
        torch.manual_seed(8)
        log_w = weights_of_draws(model, guide, data, 400)
    (q,) = seen
    z = latents_in(q, model, 400, len(data))
    log_q = sum(site["fn"].log_prob(site["value"]) * mask_of(site) for site in drawn(q))
    told = model.log_prior(z, batch) + model.log_likelihood(z, batch) - log_q.reshape(400, -1)
    torch.testing.assert_close(log_w, told.mT, rtol=1e-9, atol=1e-9)
    wanted = torch.stack([tail_index(row) for row in told.mT])
    torch.testing.assert_close(khat(log_w), wanted, rtol=1e-6, atol=1e-6)


def drawn(trace):
    return [site for _, site in trace.iter_stochastic_nodes()]


def mask_of(site):
    return 1.0 if site["mask"] is None else site["mask"]


def calibrated(kind):
    """Ranks under the posterior are uniform; under a third of its spread they are not."""
    model, _ = made(kind)
    for power, passes in ((1.0, True), (3.0, False)):
        torch.manual_seed(9)
        found = calibrate(model, OnGrid(model, power), 240, 19, level=0.999, rows=40)
        assert found.passed is passes
        assert found.ranks.shape == (240, sum(m for (m,) in describe(model).latents.values()))
        assert passes or (found.ends > 0.05).all()


def arviz(kind):
    """Draws, and at them the log-likelihood that is written out."""
    model, data, guide = fitted(kind)
    torch.manual_seed(10)
    found = to_arviz(model, guide, data, 30)
    batch = data.batch(torch.arange(len(data)))
    z = {name: torch.as_tensor(v.values[0]) for name, v in found.posterior.data_vars.items()}
    for name in describe(model).of_all_data:
        z[name] = z[name].unsqueeze(1)
    assert list(z) == list(describe(model).latents)
    told = sum(torch.as_tensor(v.values[0]) for v in found.log_likelihood.data_vars.values())
    torch.testing.assert_close(told, model.log_likelihood(z, batch), rtol=1e-9, atol=1e-9)
    x = batch.x if isinstance(batch.x, dict) else {"x": batch.x}
    for name, values in x.items():
        assert (found.observed_data[name].values == values.numpy()).all()
    given = found.constant_data.data_vars if batch.given else {}
    assert set(given) == set(batch.given)


CHECKS = dict(
    zip(COLUMNS, (train, compiled, iw_bound, ais, gaps, tail, calibrated, arviz), strict=True)
)


LONG = {("sequences of different lengths", column) for column in ("gaps", "calibrate")}
"""Cells with integrals in three dimensions."""
CELLS = [
    pytest.param(kind, column, marks=[pytest.mark.slow] * ((kind, column) in LONG))
    for kind in KINDS
    for column in COLUMNS
]


@pytest.mark.parametrize(("kind", "column"), CELLS)
def test_a_cell_is_right_or_refused(kind, column):
    words = REFUSED.get((kind, column))
    if words is None:
        CHECKS[column](kind)
        return
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  # the words are compared below
        CHECKS[column](kind)
    assert str(refusal.value) == words


FOR_INDUCTOR = ("latent on a simplex", "global latents")
"""Maps to a support, factors, plates inside one another; masks and sums are in test_enumeration.
The graphs of all kinds are checked above, without the compiler."""


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.skipif(not graph.can_compile(), reason="Inductor needs a compiler")
@pytest.mark.parametrize("kind", FOR_INDUCTOR)
def test_a_step_of_inductor_is_the_eager_one(kind):
    with torch._inductor.config.patch(fallback_random=True):
        torch.testing.assert_close(steps(kind, True), steps(kind, False), rtol=1e-9, atol=1e-9)


def test_the_page_has_the_table():
    assert table() in PAGE.read_text()
    assert len(REFUSED) <= 12
