"""Legitimate sizes that guides refuse in Pyro's or torch's words."""

import pyro
import torch
from pyro import poutine

from guides import Flow
from guides.auto import Auto
from ppl_models import PPCA, Batch
from ppl_models.bayesian_ppca import BayesianPPCA


def test_a_flow_takes_more_latents_than_its_default_width():
    model = PPCA(140, 130)
    guide, x = Flow(model), torch.randn(2, 140)
    q = guide.posterior(x)
    z = q.rsample()
    assert q.log_prob(z).isfinite().all()


def test_the_triangle_of_a_single_number_has_nothing_below_its_diagonal():
    model = BayesianPPCA(1, 1, identified=True)
    guide = Auto(model, "auto_normal")
    run = poutine.trace(guide).get_trace(Batch.of(torch.randn(5, 1)))
    assert run.nodes["V_below"]["value"].shape == (0,)
    assert run.log_prob_sum().isfinite()
    assert not list(pyro.get_param_store().keys())
