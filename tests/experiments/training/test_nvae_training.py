"""NVAE's recipe: one decoder per step, skipped steps, averages, and what the groups hold."""

import copy
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.distributions import AffineTransform

from experiments.data import as_data, load
from experiments.errors import UsageError
from experiments.evaluation.bounds import per_image
from experiments.evaluation.hierarchy import channel_kls, group_rows, resampled_groups
from experiments.evaluation.metrics import bits_per_dimension
from experiments.evaluation.sampling.reconstruction import expected
from experiments.inference.average import WeightAverage
from experiments.inference.fit import fit
from experiments.inference.guard import Guard
from experiments.inference.handlers import TemperKL
from experiments.inference.objectives import ELBO, OBJECTIVES, AnalyticKL, nvae
from experiments.inference.objectives.nvae import BalancedKL
from experiments.inference.optim import adamax
from experiments.inference.optim.schedules import learning_rate, published_rate
from experiments.inference.svi import SVI, Pair
from experiments.inference.traces import site_kls, traces
from experiments.options.nvae import NVAEOptions
from experiments.training.nvae.batch_norms import batch_norm_statistics, readjust, readjusted
from experiments.training.nvae.recipe import recipe_of
from experiments.training.pair import check_pixels
from experiments.training.saved_run import bits_of, build_model
from guides import GUIDES, BottomUp
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.nvae import NVAE
from ppl_models.nvae.distributions import CroppedBernoulli
from ppl_models.nvae.program import Group
from ppl_models.program import Program

SMALL = {"groups": (1, 2), "latents": 2, "channels": 4, "blocks": 1, "cells_per_block": 1}


def pair_of(guide: str = "top_down", depthwise: bool = False, **options) -> Pair:
    model = NVAE((1, 8, 8), depthwise=depthwise, crop=0, **SMALL)
    if guide != "mean_field":
        options["cells_per_block"] = 1
    return Pair(model, GUIDES[guide](model, **options))


def images(count: int = 6) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8).round()


def counted(pair: Pair, run) -> dict[str, int]:
    """How often every module of a pair is called while ``run`` runs."""
    calls = dict.fromkeys((name for name, _ in pair.named_modules()), 0)

    def hook(name):
        return lambda *_: calls.__setitem__(name, calls[name] + 1)

    hooks = [part.register_forward_hook(hook(name)) for name, part in pair.named_modules()]
    run()
    for handle in hooks:
        handle.remove()
    return calls


@pytest.mark.parametrize("depthwise", [True, False])
@pytest.mark.parametrize("objective", [ELBO, AnalyticKL, lambda: BalancedKL((1, 2))])
def test_a_step_runs_the_decoder_once_and_moves_batch_norms_once(depthwise, objective):
    pair = pair_of(depthwise=depthwise)
    svi = SVI(pair.model, pair.guide, adamax(pair.model, pair.guide), objective(), compile=False)
    calls = counted(pair, lambda: svi.step(Batch.of(images())))
    parts = [
        name
        for name, part in pair.model.named_modules()
        if name and not isinstance(part, (nn.ModuleList, nn.ModuleDict, Group))
    ]
    assert {name: calls[f"model.{name}"] for name in parts} == dict.fromkeys(parts, 1)
    norms = [part for part in pair.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert {int(part.num_batches_tracked) for part in norms} == {1}


def test_particles_climb_the_tower_once():
    pair = pair_of().eval()
    batch = Batch.of(images(3))
    seen = []
    pair.guide.tower.stem.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    p, q = traces(pair.model, pair.guide, batch, 5)
    assert seen == [3]
    assert p.nodes["x"]["log_prob"].shape == (15,)
    torch.manual_seed(7)
    _, q = traces(pair.model, pair.guide, batch, 5)
    long = batch.repeated(5)._replace(repeats=1)
    torch.manual_seed(7)
    _, again = traces(pair.model, pair.guide, long)
    torch.testing.assert_close(q.nodes["z2"]["fn"].mean, again.nodes["z2"]["fn"].mean)


@pytest.mark.parametrize("guide", ["top_down", "bottom_up"])
def test_the_sampled_and_the_analytic_bound_agree_in_expectation(guide):
    pair = pair_of(guide).eval()
    batch = Batch.of(images(4))
    copies = Batch.of(batch.x.repeat(100, 1, 1, 1))  # rows do not see each other
    differences = []
    with torch.no_grad():
        for _ in range(4):
            p, q = traces(pair.model, pair.guide, copies)
            sampled = sum(
                q.nodes[z]["log_prob"] - p.nodes[z]["log_prob"] for z in ("z0", "z1", "z2")
            )
            analytic = sum(site_kls(p, q)[0].values())
            differences.append((sampled - analytic).view(100, 4).sum(1))
    values = torch.cat(differences)
    error = values.std() / math.sqrt(len(values))
    assert values.std() > 0
    assert values.mean().abs() < 4 * error
    torch.manual_seed(1)
    elbo = ELBO().differentiable_loss(pair.model, pair.guide, batch)
    torch.manual_seed(1)
    analytic = AnalyticKL().differentiable_loss(pair.model, pair.guide, batch)
    torch.manual_seed(1)
    p, q = traces(pair.model, pair.guide, batch)
    gap = sum((q.nodes[z]["log_prob"] - p.nodes[z]["log_prob"]).sum() for z in ("z0", "z1", "z2"))
    gap = gap - sum(kl.sum() for kl in site_kls(p, q)[0].values())
    torch.testing.assert_close(elbo - analytic, gap)


def test_a_step_that_is_not_finite_leaves_no_trace():
    pair = pair_of()
    svi = SVI(pair.model, pair.guide, adamax(pair.model, pair.guide), AnalyticKL(), Guard())
    good = images(6)
    svi.step(Batch.of(good))
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    state = svi.state_dict()["optimizers"][0]["state"]
    moments = [entry["exp_avg"].clone() for entry in state.values()]
    bad = good.clone()
    bad[0, 0, 0, 0] = math.nan
    with pyro.validation_enabled(False):
        assert not svi.step(Batch.of(bad)).isfinite()
    assert svi.guard.skipped == 1
    for name, value in pair.state_dict().items():
        assert torch.equal(value, before[name]), name
    after = svi.state_dict()["optimizers"][0]["state"].values()
    assert all(torch.equal(m, entry["exp_avg"]) for m, entry in zip(moments, after, strict=True))
    assert all(p.grad is None for p in pair.parameters())
    svi.step(Batch.of(good))
    assert svi.guard.skipped == 1
    assert not torch.equal(pair.model.image.weight, before["model.image.weight"])


def test_skipped_steps_are_counted_and_not_averaged():
    pair = pair_of()
    svi = SVI(
        pair.model,
        pair.guide,
        adamax(pair.model, pair.guide),
        AnalyticKL(),
        Guard(),
        compile=False,
    )
    x = images(8)
    broken = svi.objective.differentiable_loss
    factors = lambda batch: math.inf if 3 in batch.index else 1.0  # noqa: E731
    svi.objective.differentiable_loss = lambda p, q, batch: broken(p, q, batch) * factors(batch)
    (progress,) = fit(svi, as_data(x), epochs=1, batch_size=2)
    assert progress.skipped == 1
    assert math.isfinite(progress.loss)
    assert sum(math.isinf(value) for value in progress.losses) == 1


def test_the_average_of_the_weights():
    pair = pair_of()
    average = WeightAverage(pair, 0.9)
    svi = SVI(pair.model, pair.guide, adamax(pair.model, pair.guide), average=average)
    by_hand = None
    for _ in range(4):
        svi.step(Batch.of(images()))
        weight = pair.model.image.weight.detach().clone()
        by_hand = weight if by_hand is None else 0.9 * by_hand + 0.1 * weight
    torch.testing.assert_close(average.weights.model.image.weight, by_hand)
    assert average.weights.guide.model is average.weights.model
    last = pair.model.image.weight.detach().clone()
    state = copy.deepcopy(svi.state_dict())
    average.apply()
    torch.testing.assert_close(pair.model.image.weight.detach(), by_hand)
    svi.load_state_dict(state)
    torch.testing.assert_close(pair.model.image.weight.detach(), last)
    with pytest.raises(ValueError, match="decay=1"):
        WeightAverage(pair, 1.0)


def test_the_schedule_is_the_published_one_step_by_step():
    steps, epochs, warmup = 7, 12, 2
    factor = published_rate(steps, epochs, warmup, 0.01, 1e-4)
    for epoch in range(epochs):
        for step in range(steps):
            rate = learning_rate(epoch, step, steps, epochs, warmup, 0.01, 1e-4)
            assert 0.01 * factor((epoch + step / steps) / epochs) == pytest.approx(rate)


def test_the_warm_up_takes_whole_epochs():
    config = NVAEOptions(epochs=14, warmup=0.1, batch_size=10, balance="none", regularise=0.0)
    rate = recipe_of(config, None, 100).schedule
    rates = [rate(epoch / 14) for epoch in (0, 0.5, 1, 1.4)]
    assert rates == pytest.approx([0, 0.5, 0.9, 0.9])


@pytest.mark.parametrize(
    ("guide", "options"),
    [("top_down", {}), ("top_down", {"flows": 1}), ("bottom_up", {}), ("prior", {})],
)
def test_the_kl_of_channels_adds_up_to_that_of_groups(guide, options):
    model = pair_of().model.eval()
    guide = GUIDES[guide](model, **options).eval()
    x = images(5)
    torch.manual_seed(3)
    kls = channel_kls(model, guide, as_data(x))
    torch.manual_seed(3)
    with torch.no_grad():
        p, q = traces(model, guide, Batch.of(x))
        groups = torch.stack([kl.mean() for kl in site_kls(p, q)[0].values()])
    torch.testing.assert_close(torch.stack([kl.sum() for kl in kls]), groups)
    rows = group_rows(kls, model.latent_shapes)
    assert [row["shape"] for row in rows] == [[2, 2, 2], [2, 4, 4], [2, 4, 4]]
    active = sum(int((kl > 0.1).sum()) for kl in kls)
    assert sum(row["active channels"] for row in rows) == active


class FineToCoarse(BottomUp):
    """A user's guide: as bottom_up, but the finest group is drawn first."""

    def forward(self, batch):
        parts = [*zip(self.names, self.samplers, self.seen(batch), strict=True)]
        with data_plate(batch):
            for name, sampler, feature in reversed(parts):
                pyro.sample(name, self.posterior(name, sampler(feature)))


class Stretched(BottomUp):
    """A user's guide: z = 2 u with a Gaussian u."""

    def posterior(self, name, numbers):
        q = super().posterior(name, numbers)
        return dist.TransformedDistribution(q, [AffineTransform(0.0, 2.0, event_dim=3)])


def test_groups_are_in_the_models_order_whatever_that_of_q(monkeypatch):
    model, x = pair_of().model.eval(), images(5)
    plain, other = (kind(model, cells_per_block=1).eval() for kind in (BottomUp, FineToCoarse))
    other.load_state_dict(plain.state_dict())
    want, found = (channel_kls(model, q, as_data(x)) for q in (plain, other))
    assert [len(kl) for kl in found] == [2, 1, 1]  # at the sample where z0 is drawn later
    torch.testing.assert_close(found[0], want[0])
    seen, weights = [], nvae.balancing_weights
    monkeypatch.setattr(nvae, "balancing_weights", lambda *of: seen.append(of) or weights(*of))
    for guide in (plain, other):
        BalancedKL((1, 2)).loss(model, guide, Batch.of(x))
    torch.testing.assert_close(seen[1][0][:, 0], seen[0][0][:, 0])  # the KL of z0
    want, found = (resampled_groups(model, q, Batch.of(x[:1]), 4) for q in (plain, other))
    assert list(found) == ["z0", "z1", "z2"]
    assert all(torch.equal(found[name], want[name]) for name in want)


def test_the_kl_of_a_group_where_q_is_no_gaussian():
    model, x = pair_of().model.eval(), images(5)
    guide = Stretched(model, cells_per_block=1).eval()
    torch.manual_seed(3)
    found = channel_kls(model, guide, as_data(x))
    torch.manual_seed(3)
    with torch.no_grad():
        kls, sampled = site_kls(*traces(model, guide, Batch.of(x)))
    assert sampled == ["z0", "z1", "z2"]
    for kl, want in zip(found, kls.values(), strict=True):
        torch.testing.assert_close(kl, want.mean(0, keepdim=True).double())


@pytest.mark.parametrize("name", ["stl", "dreg"])
def test_gradients_through_z_alone_are_refused_under_flows(name):
    model = pair_of().model
    guide = GUIDES["top_down"](model, flows=1)
    with pytest.raises(ValueError, match="needs log q at given draws: a flow's density"):
        OBJECTIVES[name](2).differentiable_loss(model, guide, Batch.of(images(3)))


def test_a_group_and_all_finer_ones_are_drawn_and_the_coarser_ones_kept():
    pair = pair_of().eval()
    shown = resampled_groups(pair.model, pair.guide, Batch.of(images(1)), draws=4)
    assert list(shown) == ["z0", "z1", "z2"]
    for x in shown.values():
        assert x.shape == (4, 1, 8, 8)
        assert x.std(0).max() > 0
    again = resampled_groups(pair.model, pair.guide, Batch.of(images(1)), draws=4)
    assert torch.equal(again["z0"], shown["z0"])  # of the prior, whatever the image
    assert not torch.equal(again["z1"], shown["z1"])  # z0 is that of another image
    assert shown["z2"].std(0).mean() < shown["z0"].std(0).mean()


def test_readjusted_batch_norms_are_kept_with_the_run(tmp_path):
    model = pair_of().model.eval()
    (tmp_path / "checkpoint").mkdir()
    own = {name: value.clone() for name, value in batch_norm_statistics(model).items()}
    path = tmp_path / "checkpoint/batch_norms_T0.6.safetensors"
    with readjusted(tmp_path, model, 0.6, passes=3):
        moved = {name: value.clone() for name, value in batch_norm_statistics(model).items()}
        assert not model.training
    written = path.stat().st_mtime_ns
    assert any(not torch.equal(own[name], moved[name]) for name in own)
    assert all(torch.equal(value, own[n]) for n, value in batch_norm_statistics(model).items())
    with readjusted(tmp_path, model, 0.6, passes=3):
        for name, value in batch_norm_statistics(model).items():
            assert torch.equal(value, moved[name])
    assert path.stat().st_mtime_ns == written
    with torch.no_grad():
        model.top.add_(1.0)  # other weights: what was kept no longer holds
    with readjusted(tmp_path, model, 0.6, passes=3):
        pass
    assert path.stat().st_mtime_ns != written
    with readjusted(tmp_path, model, 0.7, passes=0):
        assert all(torch.equal(v, own[n]) for n, v in batch_norm_statistics(model).items())
    assert not (tmp_path / "checkpoint/batch_norms_T0.7.safetensors").exists()


def test_readjustment_draws_at_the_temperature():
    cold, warm = (pair_of().model for _ in range(2))
    warm.load_state_dict(cold.state_dict())
    readjust(cold, 0.2, passes=5), readjust(warm, 1.0, passes=5)
    name = "groups.0.cells.0.body.0.running_var"
    assert batch_norm_statistics(cold)[name].sum() < batch_norm_statistics(warm)[name].sum()


class Photographs(Program):
    """A user's decoder, with batch norms of vectors and of maps, of a site called photo."""

    def __init__(self):
        super().__init__()
        self.of_vectors = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
        self.of_maps = nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.BatchNorm2d(1))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pixels = dist.Bernoulli(logits=self.of_maps(self.of_vectors(z))).to_event(3)
            return pyro.sample("photo", pixels, obs=batch.obs("photo"))


def test_readjustment_of_a_users_decoder(tmp_path):
    model = Photographs().eval()
    (tmp_path / "checkpoint").mkdir()
    own = {name: value.clone() for name, value in model.named_buffers()}
    inside = []
    for _ in range(2):  # the second time from the file
        with readjusted(tmp_path, model, 0.5, passes=3):
            inside.append({name: value.clone() for name, value in model.named_buffers()})
        assert all(torch.equal(value, own[name]) for name, value in model.named_buffers())
    assert all(torch.equal(inside[0][name], inside[1][name]) for name in own)
    for name in ("of_vectors.1.running_var", "of_maps.1.running_var"):
        assert not torch.equal(inside[0][name], own[name])


def test_the_border_does_not_count():
    likelihood = CroppedBernoulli(torch.full((2, 1, 8, 8), 3.0), crop=2)
    shown = expected(likelihood)
    assert shown.shape == (2, 1, 8, 8)
    assert (shown[..., :2, :] == 0).all()
    assert (shown[..., 2:-2, 2:-2] == likelihood.mean[..., 2:-2, 2:-2]).all()
    model = NVAE((1, 8, 8), crop=2, **SMALL).eval()
    guide = GUIDES["top_down"](model, cells_per_block=1).eval()
    x = torch.zeros(3, 1, 8, 8)
    found = per_image(model, guide, as_data(x), particles=2)
    assert (found["squared_error"] < 16).all()  # 4 x 4 pixels, each at most one off


def test_bits_per_dimension():
    rgb = NVAE((3, 8, 8), groups=(1, 1), latents=1, channels=4, blocks=1, cells_per_block=1)
    figures = bits_per_dimension({"elbo": -192 * math.log(2), "iw_bound": None}, rgb)
    assert figures == {"elbo_bits_per_dimension": pytest.approx(1.0)}
    assert bits_per_dimension({"elbo": -3.0}, pair_of().model) == {}
    assert bits_per_dimension({"elbo": -3.0}, None) == {}


def test_annealed_and_balanced_is_a_loss_and_at_one_the_bound():
    pair = pair_of().eval()
    batch = Batch.of(images(4))

    def loss(objective, beta):
        torch.manual_seed(2)
        with TemperKL(beta):
            return objective.differentiable_loss(pair.model, pair.guide, batch)

    balanced, plain = BalancedKL((1, 2)), AnalyticKL()
    torch.testing.assert_close(loss(balanced, 1.0), loss(plain, 1.0))
    assert not torch.isclose(loss(balanced, 0.5), loss(plain, 0.5))
    torch.testing.assert_close(loss(balanced, 0.0), loss(plain, 0.0))


def test_a_model_of_the_encoders_cells_is_pyros(monkeypatch):
    pair = pair_of(depthwise=False)
    pair.eval()
    batch = Batch.of(images(2))
    guide_trace = poutine.trace(pair.guide).get_trace(batch)
    replayed = poutine.trace(poutine.replay(pair.model, trace=guide_trace)).get_trace(batch)
    assert torch.isfinite(replayed.log_prob_sum())


def test_probabilities_of_rgb_pixels_are_those_of_their_levels(in_a_folder):
    """Floats were taken for pixels of one bit, whose bins are as wide as the whole range."""
    x = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8))
    noisy = (x + 0.3) / 256

    def built(values: np.ndarray, mixture: int = 10, **options) -> NVAE:
        np.save("x.npy", values)
        train, _ = load("x.npy", **options)
        model = build_model("nvae", train, SMALL | {"mixture": mixture})
        check_pixels(model, train)
        return model

    for values in (x.astype("u1"), (x / 255).astype("f2"), (x / 255).astype("f4"), x / 255):
        assert built(values).bits == 8
    assert built((x > 99).astype("f4")).bits == built(noisy, binarize="dynamic").bits == 1
    assert built(x.astype("u1"), bits=5).bits == 5
    assert bits_of(as_data(noisy[:, :1])) == 1, "grey floats have no levels"
    built(noisy, mixture=1)
    for values, options in ((noisy, {}), (x.astype("u1"), {"dequantize": True})):
        with pytest.raises(UsageError, match=r"probabilities of RGB pixels k / 255.*uint8"):
            built(values, **options)
