"""The noise of gradients, on the oracle."""

from types import SimpleNamespace

import torch

from experiments import ppca
from experiments.data import as_data
from experiments.evaluation.gradient_noise import distance, moments
from experiments.evaluation.oracle import best_linear
from experiments.inference.objectives import ELBO, IWAE, STL, DReG
from experiments.tools import gradients
from guides import GUIDES
from ppl_models import PPCA, Batch
from tests.shared.commands import refused, run


def setting():
    truth = PPCA(6, 2)
    with torch.no_grad():
        truth.W.mul_(torch.tensor([4.0, 2.0]))
        x = truth(Batch.draw(40))
    return PPCA.maximum_likelihood(x, 2), Batch.of(x)


def test_sticking_the_landing_has_no_noise_at_the_posterior():
    model, batch = setting()
    guide = best_linear(model)  # the posterior: W's columns are orthogonal
    q = list(guide.parameters())
    noisy, quiet = (moments(model, guide, o, batch, q, 50) for o in (ELBO(), STL()))
    assert quiet.noise < 1e-6 * noisy.noise


def test_a_little_noise_on_a_large_gradient_keeps_its_digits():
    class Noisy:  # a gradient of 1e9 with a standard deviation of one
        def differentiable_loss(self, model, guide, batch):
            return batch.size * (1e9 + torch.randn(())) * parameter

    model, batch = setting()
    parameter = torch.nn.Parameter(torch.zeros(()))
    found = moments(model, model, Noisy(), batch, [parameter], 2000)
    assert abs(found.noise - 1) < 0.1
    assert abs(found.mean.item() - 1e9) < 0.2


def test_estimators_of_one_gradient_agree_and_dreg_keeps_the_signal():
    model, batch = setting()
    guide = GUIDES["amortized"](model, hidden_dims=(8,))
    q = list(guide.parameters())
    found = {
        (cls.__name__, k): moments(model, guide, cls(k), batch, q, 300)
        for cls in (IWAE, DReG)
        for k in (2, 50)
    }
    for k in (2, 50):
        apart, noise = distance(found["DReG", k], found["IWAE", k])
        assert apart < 3 * noise
    assert found["DReG", 50].signal_to_noise > found["IWAE", 50].signal_to_noise


def test_a_gradient_of_mean_zero_has_no_signal():
    class Nothing:
        def differentiable_loss(self, model, guide, batch):
            return batch.size * (torch.randn(10_000) @ parameter)

    model, batch = setting()
    parameter = torch.nn.Parameter(torch.zeros(10_000))
    found = moments(model, model, Nothing(), batch, [parameter], 4)
    assert abs(found.noise - 100) < 3
    assert found.signal_to_noise < 0.2


def test_the_distance_expected_from_noise_is_that_of_unbiased_estimators():
    model, batch = setting()
    guide = GUIDES["amortized"](model, hidden_dims=(8,))
    saved = SimpleNamespace(model=model, guide=guide)
    apart, alone = 0.0, 0.0
    for seed in range(6):
        pair = ("elbo", "elbo_analytic_kl")
        config = SimpleNamespace(draws=(1,), objectives=pair, seed=seed, steps=40, run="r")
        line = gradients.table(saved, as_data(batch.x), config)[1]["q: apart (noise alone)"]
        one, other = map(float, line.rstrip(")").split(" ("))
        apart, alone = apart + one, alone + other
    assert 0.5 < apart / alone < 2


def test_the_command(tmp_path, monkeypatch, capsys):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    run(ppca, "--data", "digits", "--epochs", "1", "--guide", "amortized", "--out", "fitted")
    short = ["--images", "20", "--steps", "4", "--draws", "1", "3"]
    metrics = run(gradients, "fitted", *short, "--out", "gradients")
    assert len(metrics["gradients"]) == 10
    refused(
        capsys,
        gradients,
        ["fitted", "--objectives", "miselbo", "--out", "no"],
        "does not fit guide 'amortized'",
    )
    refused(capsys, gradients, ["fitted", "--steps", "1", "--out", "no"], "--steps")
