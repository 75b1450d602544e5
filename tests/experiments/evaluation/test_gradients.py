"""The noise of gradients, on the oracle."""

import torch

from experiments import ppca
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
