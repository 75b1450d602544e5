"""The factor on the KL: its schedules, and what it does to a bound."""

import pytest
import torch

from experiments import train, vae
from experiments.data import as_data
from experiments.inference.handlers import TemperKL
from experiments.inference.objectives import AnalyticKL
from experiments.inference.optim.schedules import cyclical
from experiments.inference.svi import SVI
from experiments.inference.traces import site_kls, traces
from guides import GUIDES
from ppl_models import PPCA
from tests.shared.commands import refused, run


def test_cycles_rise_and_stay():
    assert [cyclical(p / 8, 2.0, 0.5, 2) for p in range(9)] == pytest.approx(
        [0.0, 1.0, 2.0, 2.0, 0.0, 1.0, 2.0, 2.0, 2.0], abs=1e-6
    )
    assert {cyclical(p / 4, 3.0, 0.0, 1) for p in range(5)} == {3.0}
    assert cyclical(0.25, rise=0.5) == 0.5


@pytest.mark.parametrize("beta", [0.0, 0.3, 4.0])
def test_beta_weighs_the_kl_alone(beta):
    model = PPCA(6, 2)
    guide = GUIDES["amortized"](model)
    (batch,) = as_data(torch.randn(5, 6)).batches(5)
    losses = []
    for factor in (1.0, beta):
        torch.manual_seed(0)
        with TemperKL(factor):
            losses.append(SVI(model, guide, loss=AnalyticKL()).evaluate_loss(batch))
    kl, _ = site_kls(*traces(model, guide, batch))
    torch.testing.assert_close(losses[1] - losses[0], (beta - 1) * kl["z"].sum() / 5)


@pytest.mark.usefixtures("without_pictures")
def test_annealed_runs_end_at_the_bound(tmp_path, monkeypatch, capsys):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    common = ["--data", "digits", "--rows", "200", "--latent-dim", "4", "--epochs", "20"]
    rates = {}
    for beta in ("0.1", "5"):
        out = ["--out", f"b{beta}"]
        metrics = run(vae, *common, "--beta", beta, "--kl-anneal", "0.5", "--cycles", "2", *out)
        rates[beta] = metrics["test"]["rate"]
    assert rates["5"] < rates["0.1"]  # a dear KL is spent sparingly
    options = [*common, "--kl-anneal", "0.5", "--objective", "iwae", "--out", "c"]
    refused(capsys, vae, options, "--kl-anneal weight the KL of an ELBO")
    options = [*common, "--kl-anneal", "0.5", "--patience", "2", "--out", "e"]
    refused(capsys, vae, options, "use one of them")
    rows = ["--data", "digits", "--guide", "mean_field", "--decoder", "frozen", "--beta", "2"]
    refused(capsys, train, [*rows, "--out", "f"], "do not apply to per-datum guides with a frozen")
    flow = ["--guide", "flow", "--objective", "elbo_free_bits", "--kl-anneal", "0.5"]
    assert run(vae, *common, *flow, "--out", "g")["test"]["elbo"] > -1000  # no NaN at beta = 0
    refused(capsys, train, ["--beta", "-1", "--out", "d"], "--beta must be 0 or more")
    refused(capsys, train, ["--cycles", "0", "--out", "d"], "--cycles must be at least 1")
