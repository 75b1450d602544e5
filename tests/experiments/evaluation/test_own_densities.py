"""A distribution that subclasses Independent or Normal has the density that it defines."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from experiments.data import as_data
from experiments.evaluation.ais import annealed_bound
from experiments.evaluation.bounds import per_image
from experiments.evaluation.predictive import replicated_sets
from experiments.evaluation.shared_draws import log_prob_table
from experiments.inference.handlers import ObservePixels
from experiments.inference.objectives import ELBO, STL, AnalyticKL, DReG, FreeBits
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import NVAE, Batch
from ppl_models.coordinates import own_density
from ppl_models.nvae.distributions import CroppedBernoulli, PixelNormal
from tests.shared.linear_pair import Encoder, Linear, X

SMALL = {"groups": (1, 1), "latents": 1, "channels": 4, "blocks": 1, "cells_per_block": 1}


class Tobit(dist.Normal):
    """Censored at zero: P(x = 0) is the mass below."""

    def log_prob(self, value):
        below = torch.special.log_ndtr(-self.loc / self.scale)
        return torch.where(value > 0, super().log_prob(value), below)


class Doubled(dist.Independent):
    """No product over the entries of its event."""

    def log_prob(self, value):
        return 2 * super().log_prob(value)


def case(name):
    """A likelihood of four draws, and five data."""
    torch.manual_seed(0)
    if name == "cropped":
        return CroppedBernoulli(torch.randn(4, 1, 8, 8), 2), torch.rand(5, 1, 8, 8).round()
    if name == "pixel normal":
        rgb = PixelNormal(torch.randn(4, 3, 4, 4), torch.randn(4, 3, 4, 4))
        return rgb, torch.rand(5, 3, 4, 4)
    if name == "doubled":
        return Doubled(dist.Normal(torch.randn(4, 3), 1.0), 1), torch.randn(5, 3)
    return Tobit(torch.randn(4, 3), 1.0).to_event(1), torch.randn(5, 3).clamp(min=0)


@pytest.mark.parametrize("name", ["cropped", "pixel normal", "tobit", "doubled"])
def test_the_table_of_shared_draws_is_its_log_prob(name):
    likelihood, x = case(name)
    expected = torch.stack([likelihood.log_prob(one) for one in x])
    torch.testing.assert_close(log_prob_table(likelihood, x), expected)


def test_the_border_of_an_nvae_counts_under_no_guide():
    """The likelihood leaves out a border of 2: its pixels cannot change a bound on log p(x)."""
    model = NVAE((1, 8, 8), crop=2, **SMALL).eval()
    x = torch.zeros(3, 1, 8, 8)
    bordered = x.clone()
    bordered[..., :2, :] = 1.0
    found = []
    for pixels in (x, bordered):
        torch.manual_seed(1)
        values = per_image(model, GUIDES["prior"](model), as_data(pixels), 40)
        found.append(values["iw_bound"])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", ["cropped", "pixel normal", "tobit"])
def test_observed_pixels_keep_their_density(name):
    likelihood, x = case(name)
    x, seen = x[:4], torch.zeros(likelihood.event_shape, dtype=torch.bool)
    seen[..., :3] = True
    parts = []
    for mask in (seen, ~seen, seen | ~seen):
        with ObservePixels(mask):
            nodes = poutine.trace(lambda: pyro.sample("x", likelihood, obs=x)).get_trace().nodes
        parts.append(nodes["x"]["fn"].log_prob(x))
    torch.testing.assert_close(parts[0] + parts[1], parts[2])
    torch.testing.assert_close(parts[2], likelihood.log_prob(x))


@pytest.mark.parametrize("name", ["doubled", "vectors"])
def test_pixels_of_another_density_cannot_be_left_out(name):
    likelihood = case("doubled")[0]
    if name == "vectors":  # each is one event of the base: its numbers depend on each other
        likelihood = dist.MultivariateNormal(torch.zeros(4, 3, 3), torch.eye(3)).to_event(1)
    hidden = ObservePixels(torch.ones(likelihood.event_shape, dtype=torch.bool))
    with pytest.raises(ValueError, match="not a product over pixels"), hidden:
        pyro.sample("x", likelihood, obs=torch.zeros(likelihood.shape()))


def test_draws_of_rgb_pixels_have_their_moments():
    likelihood, _ = case("pixel normal")
    drawn = likelihood.sample((20_000,))
    pixel = likelihood.base_dist
    torch.testing.assert_close(drawn.std(0), pixel.stddev, rtol=0.05, atol=0)
    within = (drawn.mean(0) - likelihood.mean).abs() < 5 * pixel.stddev / 20_000**0.5
    assert within.all()


def test_pixels_that_do_not_count_are_not_checked():
    """Replicates have the data's own values where the likelihood leaves them out."""
    model = NVAE((1, 8, 8), crop=2, **SMALL).eval()
    data = as_data(torch.zeros(20, 1, 8, 8))
    made = replicated_sets(model, None, data, 2)
    assert (made[..., :2, :] == 0).all()


class Wide(dist.Normal):
    """Twice as wide as its scale says."""

    def rsample(self, sample_shape=()):
        return self.loc + 2 * (super().rsample(sample_shape) - self.loc)

    def log_prob(self, value):
        return dist.Normal(self.loc, 2 * self.scale).log_prob(value)


class OfWide(Encoder):
    """The posterior: every bound is log p(x), whatever is drawn."""

    def q(self, batch):
        return Wide((batch.x - 1) / 2, 0.5**0.5 / 2).to_event(1)


@pytest.mark.parametrize(
    "objective", [ELBO(), AnalyticKL(3), STL(), DReG(3), FreeBits(free_bits=0)]
)
def test_a_guide_that_derives_from_a_normal_keeps_its_density(objective):
    torch.manual_seed(0)
    p = dist.Normal(1.0, 2**0.5)
    evidence = p.log_prob(X).sum(1)
    loss = SVI(Linear(), OfWide(), loss=objective).evaluate_loss(Batch.of(X))
    torch.testing.assert_close(-loss, evidence.mean(), atol=1e-4, rtol=0)
    found = annealed_bound(Linear(), OfWide(), Batch.of(X), 3, 5, 2).bound
    torch.testing.assert_close(found, evidence, atol=1e-4, rtol=0)


def test_a_density_that_a_class_gets_later_is_its_own():
    class Later(dist.Normal):
        """A normal, until it is given a density."""

    one = Later(torch.zeros(3), 1.0)
    assert own_density(one) is None
    Later.log_prob = lambda self, value: dist.Normal.log_prob(self, value).exp()
    assert own_density(one) is Later
    assert own_density(one.to_event(1)) is Later
    del Later.log_prob
    assert own_density(one) is None
