"""Annealed importance sampling, on the oracle."""

import pytest
import torch
from pyro import poutine

from experiments.data import as_data
from experiments.evaluation.ais import annealed_bound, sandwich
from experiments.evaluation.annealing import Annealing
from experiments.evaluation.bounds import per_image
from experiments.inference.density import density
from guides import GUIDES
from ppl_models import NVAE, Batch
from tests.shared.linear_pair import Encoder, HalfPrior, Linear, ToPoint, X
from tests.shared.oracle import oracle

SHORT = {"chains": 4, "steps": 30, "leapfrog": 5}


def test_from_the_posterior_every_chain_has_the_evidence():
    model, x = oracle((6.0, 2.0), 40)
    chains = annealed_bound(model, GUIDES["exact"](model), Batch.of(x), **SHORT)
    evidence = model.marginal().log_prob(x)
    torch.testing.assert_close(chains.log_weights, evidence.expand(4, -1))
    assert (chains.acceptance > 0.3).all()


@pytest.mark.parametrize("start", ["guide", "prior"])
def test_more_temperatures_come_closer_from_below(start):
    model, x = oracle((6.0, 2.0), 40)
    guide = GUIDES["amortized"](model, encoder="linear")  # untrained: far from the posterior
    evidence = model.marginal().log_prob(x)
    gaps = []
    for steps in (5, 100):
        torch.manual_seed(0)
        chains = annealed_bound(
            model, guide, Batch.of(x), chains=8, steps=steps, leapfrog=6, start=start
        )
        gaps.append((evidence - chains.bound).mean().item())
    weights = per_image(model, guide, as_data(x), particles=8 * 100)["iw_bound"]
    assert gaps[1] < 0.5 * gaps[0]
    assert -0.2 < gaps[1] < (evidence - weights).mean()
    assert model.training


def test_the_subsampling_factor_plays_no_part():
    model, x = oracle((6.0, 2.0), 6)
    guide = GUIDES["prior"](model)
    torch.manual_seed(1)
    whole = annealed_bound(model, guide, Batch.of(x), **SHORT)
    torch.manual_seed(1)
    part = annealed_bound(model, guide, Batch(x, torch.arange(6), 600), **SHORT)
    torch.testing.assert_close(whole.log_weights, part.log_weights)


def test_a_sandwich_on_simulated_data_closes():
    model, _ = oracle((6.0, 2.0), 40)
    widths = {}
    for steps in (10, 150):
        torch.manual_seed(2)
        found = sandwich(model, GUIDES["prior"](model), 30, chains=6, steps=steps, leapfrog=6)
        widths[steps] = found.mean().item()
    assert -0.1 < widths[150] < 0.3 * widths[10]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("flow", {"transform": "autoregressive", "context": 3, "width": 8}),
        ("mixture", {"components": 3}),
        ("semi_amortized", {"steps": 2}),
    ],
    ids=str,
)
def test_from_every_family(name, options):
    """A flow's other transform has its weights below, to the last digits."""
    model, x = oracle((6.0, 2.0), 40)
    guide = GUIDES[name](model, hidden_dims=(4,), **options)
    chains = annealed_bound(model, guide, Batch.of(x), chains=16, steps=120, leapfrog=3)
    gap = model.marginal().log_prob(x) - chains.bound
    assert -0.1 < gap.mean() < 0.2
    # weights of an unchanging q: their mean is p(x), however often they are drawn
    assert (gap.abs() < 4).all()
    width = sandwich(model, guide, 20, chains=16, steps=120, leapfrog=3)
    assert -0.2 < width.mean() < 0.3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("prior", {}),
        ("exact", {}),
        ("amortized", {"covariance": "diagonal"}),
        ("amortized", {"covariance": "full"}),
        ("flow", {"transform": "autoregressive"}),
        ("flow", {"transform": "coupling"}),
        ("top_down", {"cells_per_block": 1}),
        ("bottom_up", {"cells_per_block": 1}),
    ],
    ids=str,
)
def test_weights_do_not_depend_on_the_coordinates(name, options):
    """Moves are made in the noise of q, where q is standard normal; log p - log q is the same."""
    model, x = oracle((6.0, 2.0), 5)
    if name in ("top_down", "bottom_up"):
        model, x = hierarchy(lean=True).eval(), torch.rand(5, 1, 8, 8).round()
    guide, batch = GUIDES[name](model, **options).eval(), Batch.of(x)
    path = Annealing(model, guide, batch, steps=1, leapfrog=1)
    assert path.in_noise
    with torch.no_grad():
        drawn = poutine.trace(guide).get_trace(batch)
        z = {site: drawn.nodes[site]["value"] for site in path.names}
        expected = density(model, batch)(z) - density(guide, batch, path.names)(z)
        noise = path.inverted(z)
        log_p, log_q = path.densities(noise)
    torch.testing.assert_close(path.ratio(noise), expected)
    standard = torch.distributions.Normal(0.0, 1.0)
    sums = sum(standard.log_prob(value).flatten(1).sum(1) for value in noise.values())
    torch.testing.assert_close(log_q, sums)
    torch.testing.assert_close(log_p - log_q, expected)


def hierarchy(**options):
    shape = {"groups": (1, 1), "latents": 1, "channels": 4, "blocks": 1, "cells_per_block": 1}
    return NVAE((1, 8, 8), **shape, **options)


@pytest.mark.parametrize("name", ["top_down", "bottom_up", "prior"])
def test_a_hierarchy(name):
    model = hierarchy()
    options = {} if name == "prior" else {"cells_per_block": 1}
    guide = GUIDES[name](model, **options)
    x = torch.rand(3, 1, 8, 8).round()
    chains = annealed_bound(model, guide, Batch.of(x), chains=3, steps=20, leapfrog=3)
    assert chains.log_weights.shape == (3, 3)
    found = per_image(model.eval(), guide.eval(), as_data(x), particles=500)
    if name == "prior":  # whose ELBO is within the noise of three chains, and IW bound is exact
        torch.testing.assert_close(chains.bound, found["iw_bound"], atol=0.2, rtol=0)
    else:
        assert (chains.bound > found["elbo"]).all()


def test_bad_numbers():
    model, x = oracle((6.0, 2.0), 40)
    with pytest.raises(ValueError, match="steps=0"):
        annealed_bound(model, GUIDES["prior"](model), Batch.of(x), steps=0)


@pytest.mark.parametrize(
    ("model", "guide", "start", "words"),
    [
        (HalfPrior, Encoder, "guide", "HalfPrior scales the log-density of 'z'"),
        (HalfPrior, Encoder, "prior", "HalfPrior scales the log-density of 'z'"),
        (Linear, ToPoint, "guide", "ToPoint gives a point for 'z'"),
    ],
)
def test_what_has_no_bound_is_not_annealed(model, guide, start, words):
    """Chains would leave the scale out, and never leave the point."""
    pair, short = (model(), guide()), {"chains": 2, "steps": 2, "leapfrog": 1, "start": start}
    with pytest.raises(ValueError, match=words):
        annealed_bound(*pair, Batch.of(X), **short)
    with pytest.raises(ValueError, match=words):
        sandwich(*pair, 3, **short)


def test_a_point_is_no_hindrance_where_chains_start_at_the_prior():
    found = annealed_bound(Linear(), ToPoint(), Batch.of(X), 2, 5, 2, "prior")
    assert found.bound.isfinite().all()


def test_flows_without_an_inverse_anneal_from_the_prior():
    model = NVAE((1, 8, 8), (1, 1), 1, 4, blocks=1, cells_per_block=1, crop=0)
    guide = GUIDES["top_down"](model, cells_per_block=1, flows=1)
    batch = Batch.of(torch.rand(2, 1, 8, 8).round())
    with pytest.raises(ValueError, match=r"at given latents: a flow's .*Anneal from the prior"):
        annealed_bound(model, guide, batch, 2, 1, 1)
    assert annealed_bound(model, guide, batch, 2, 1, 1, "prior").bound.isfinite().all()
