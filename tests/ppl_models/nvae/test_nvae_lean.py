"""Lean hierarchies: their layers are convolutions, and their guide starts at the prior."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.errors import UsageError
from experiments.inference.objectives import ELBO, IWAE, AnalyticKL, FreeBits
from experiments.inference.objectives.nvae import FineTuned
from experiments.inference.objectives.regularisers import SpectralNorm
from experiments.inference.optim import Muon, adamax, hierarchical_muon
from experiments.inference.svi import SVI, Pair
from experiments.inference.traces import site_kls, traces
from experiments.options.nvae import NVAEOptions
from experiments.training.nvae.recipe import recipe_of
from guides import GUIDES
from ppl_models import Batch
from ppl_models.nvae import NVAE
from ppl_models.nvae.lean import Pointwise, RMSNormSwish, Stem


def pair_of(guide: str = "top_down", groups: tuple[int, ...] = (2, 1), blocks: int = 1) -> Pair:
    torch.manual_seed(0)
    shape = (1, 12, 8)
    options = {"groups": groups, "latents": 2, "channels": 4, "blocks": blocks, "crop": 0}
    model = NVAE(shape, cells_per_block=1, lean=True, **options)
    return Pair(model, GUIDES[guide](model, cells_per_block=1)).double()


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 1, 12, 8, dtype=torch.float64).round()


@pytest.mark.parametrize("channels", [1, 3])
def test_matrix_products_are_the_convolutions_they_stand_for(channels):
    x = torch.randn(2, channels, 12, 8, dtype=torch.float64, requires_grad=True)
    for layer in (Pointwise(channels, 5).double(), Stem(channels, 5).double()):
        whole = F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding)
        torch.testing.assert_close(layer(x), whole)
        cotangent = torch.randn_like(whole)
        of = (x, layer.weight, layer.bias)
        ours, theirs = (torch.autograd.grad(y, of, cotangent) for y in (layer(x), whole))
        torch.testing.assert_close(ours, theirs)


def test_a_pixel_is_normalised_by_its_own_channels():
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    want = F.silu(x / (x.square().mean(1, keepdim=True) + 1e-4).sqrt())
    torch.testing.assert_close(RMSNormSwish()(x), want)
    torch.testing.assert_close(RMSNormSwish()(1000 * x), want, rtol=0, atol=1e-2)


@pytest.mark.parametrize(("groups", "blocks"), [((2, 1), 1), ((3,), 2), ((1,), 1)])
@pytest.mark.parametrize("guide", ["top_down", "bottom_up"])
def test_every_parameter_learns_after_a_step(guide, groups, blocks):
    pair = pair_of(guide, groups, blocks)
    svi = SVI(pair.model, pair.guide, adamax(pair.model, pair.guide), AnalyticKL())
    batch = Batch.of(images())
    svi.step(batch)  # outputs of p and q start at zero, and nothing reaches what lies behind them
    svi.eager(batch)
    idle = [
        name
        for name, p in pair.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.abs().sum() > 0
    ]
    assert idle == []


def test_the_guide_starts_at_the_prior():
    pair = pair_of()
    kls, _ = site_kls(*traces(pair.model, pair.guide, Batch.of(images())))
    assert list(kls) == ["z0", "z1", "z2"]
    for kl in kls.values():
        torch.testing.assert_close(kl, torch.zeros_like(kl))


def test_latents_have_the_shapes_that_the_model_names():
    pair = pair_of()
    drawn = pair.guide(Batch.of(images()))
    assert [tuple(z.shape[1:]) for z in drawn.values()] == pair.model.latent_shapes
    assert pair.model.latent_shapes == [(2, 3, 2), (2, 3, 2), (2, 6, 4)]


def test_a_step_runs_every_part_once():
    pair = pair_of()
    leaves = {
        name: part
        for name, part in pair.named_modules()
        if not any(True for _ in part.children()) and not isinstance(part, nn.Identity)
    }
    calls = dict.fromkeys(leaves, 0)

    def count(name):
        return lambda *_: calls.__setitem__(name, calls[name] + 1)

    for name, part in leaves.items():
        part.register_forward_hook(count(name))
    SVI(pair.model, pair.guide, adamax(pair.model, pair.guide), ELBO(3)).step(Batch.of(images()))
    calls = {name: n for name, n in calls.items() if not isinstance(leaves[name], nn.ModuleList)}
    assert calls == dict.fromkeys(calls, 1)


def test_no_part_mixes_the_images_of_a_batch():
    pair = pair_of()
    x = images()
    SVI(pair.model, pair.guide, adamax(pair.model, pair.guide)).step(Batch.of(x))
    whole = pair.guide.features(Batch.of(x))
    alone = pair.guide.features(Batch.of(x[1:2]))
    torch.testing.assert_close([f[1:2] for f in whole], list(alone))


def test_fine_tuning_changes_the_objective_and_nothing_else():
    pair, batch = pair_of(), Batch.of(images())
    tuned = FineTuned(AnalyticKL(), 4)
    losses = []
    for last, plain in ((False, AnalyticKL()), (True, IWAE(4)), (False, AnalyticKL())):
        tuned.last = last
        for objective in (tuned, plain):
            torch.manual_seed(1)
            losses.append(objective.differentiable_loss(pair.model, pair.guide, batch))
    assert losses[0] == losses[1] == losses[4] == losses[5]
    assert losses[2] == losses[3] != losses[0]


def test_muon_moves_convolutions_as_matrices_one_by_one():
    torch.manual_seed(0)
    shapes = [(8, 4, 3, 3), (8, 4, 3, 3), (8, 36)]
    together = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    together[1].data = together[1].data.contiguous(memory_format=torch.channels_last)
    apart = [nn.Parameter(W.detach().flatten(1).clone()) for W in together]
    optimizers = [Muon(together, lr=0.1), *(Muon([W], lr=0.1) for W in apart)]
    for _ in range(3):
        for W, matrix in zip(together, apart, strict=True):
            W.grad = torch.randn_like(W)
            matrix.grad = W.grad.flatten(1)
        for optimizer in optimizers:
            optimizer.step()
    for W, matrix in zip(together, apart, strict=True):
        torch.testing.assert_close(W.flatten(1), matrix, rtol=1e-4, atol=1e-4)


def test_the_weight_decay_of_muon_is_decoupled_from_the_gradient():
    torch.manual_seed(0)
    W = torch.randn(6, 4, dtype=torch.float64)
    gradient = torch.randn_like(W)
    moved = []
    for decay in (0.0, 0.5):
        parameter = nn.Parameter(W.clone())
        parameter.grad = gradient.clone()
        Muon([parameter], lr=0.1, weight_decay=decay).step()
        moved.append(parameter.detach())
    torch.testing.assert_close(moved[0] - moved[1], 0.1 * 0.5 * W)


def test_muon_and_adam_share_a_hierarchy_between_them():
    model = NVAE((1, 8, 8), (2,), 2, 8, blocks=1, cells_per_block=1, crop=0, lean=True)
    pair = Pair(model, GUIDES["top_down"](model, cells_per_block=1))
    muon, adam = hierarchical_muon(pair.model, pair.guide, 0.01)
    moved = [p for o in (muon, adam) for group in o.param_groups for p in group["params"]]
    assert sorted(map(id, moved)) == sorted(map(id, pair.parameters()))
    assert {p.ndim for group in muon.param_groups for p in group["params"]} == {4}
    assert adam.param_groups[0]["lr"] == pytest.approx(0.0015)


def test_the_recipe_goes_from_free_bits_to_the_bound_to_importance_weighting():
    pair, batch = pair_of(), Batch.of(images())
    options = NVAEOptions(regularise=0.0, balance="none", free_bits=0.5, fine_tune=0.25)
    recipe = recipe_of(options, pair, 100)
    phases = {0.35: FreeBits(free_bits=0.5), 0.5: AnalyticKL(), 0.8: IWAE(5)}
    for progress, plain in phases.items():
        recipe.anneal(progress)
        losses = []
        for objective in (recipe.objective, plain):
            torch.manual_seed(1)
            with torch.no_grad():
                losses.append(objective.differentiable_loss(pair.model, pair.guide, batch))
        torch.testing.assert_close(losses[0], losses[1])


def test_fine_tuning_takes_no_factor_on_the_kl():
    options = NVAEOptions(regularise=0.0, kl_anneal=0.9, fine_tune=0.5)
    recipe = recipe_of(options, pair_of(), 100)
    for progress, tempered in ((0.4, True), (0.6, False), (0.95, False)):
        recipe.anneal(progress)
        assert (recipe.temper.beta < 1) == tempered


def test_penalties_of_networks_without_batch_norms_are_those_of_spectral_norms():
    pair, batch = pair_of(), Batch.of(images())
    recipe = recipe_of(NVAEOptions(regularise=0.1, balance="none"), pair, 100)
    recipe.anneal(0.5)
    losses = []
    for objective in (recipe.objective, AnalyticKL()):
        torch.manual_seed(1)
        losses.append(objective.differentiable_loss(pair.model, pair.guide, batch))
    norms = SpectralNorm(pair)()
    assert norms > 0
    torch.testing.assert_close(losses[0] - losses[1], 0.1 * batch.size * norms)


@pytest.mark.parametrize("changed", [{"balance": "square"}, {"objective": "elbo"}])
def test_free_bits_are_of_plain_analytic_kls(changed):
    options = NVAEOptions(**{"balance": "none", "free_bits": 0.5, **changed})
    with pytest.raises(UsageError, match="needs --balance none"):
        recipe_of(options, pair_of(), 100)


def test_a_lean_hierarchy_ends_in_a_block():
    with pytest.raises(ValueError, match="blocks=0 must be at least 1"):
        NVAE((1, 8, 8), (1,), 1, 4, blocks=0, lean=True)
