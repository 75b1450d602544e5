"""Draws of the prior are shared by all data only if every row is observed as it is."""

import math

import pyro.distributions as dist
import pytest
import torch

from experiments.evaluation.metrics import evaluate
from guides import GUIDES
from tests.shared.linear_pair import Missing, N, X


@pytest.mark.parametrize("first", [True, False])
def test_a_code_for_missing_rows_after_the_second_row(first):
    where = slice(3) if first else slice(N - 3, N)
    coded, kept = X.clone(), torch.ones(N, dtype=torch.bool)
    coded[where], kept[where] = -9, False
    model = Missing()
    found = evaluate(model, GUIDES["prior"](model), coded, 20_000)["iw_bound"]
    log_p = dist.Normal(1.0, math.sqrt(2)).log_prob(X[kept]).sum().item() / N
    assert found == pytest.approx(log_p, abs=0.05)
