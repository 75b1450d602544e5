"""The tail index that weights end in, from draws sent there: on the oracle, and off quadratics."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from experiments.data import as_data
from experiments.evaluation.oracle import best_linear, tail_index
from experiments.evaluation.tail_index import far_tail, tail_of
from guides import GUIDES
from guides.guide import Guide
from ppl_models import NVAE, VAE, Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.oracle import oracle


def wider(guide, factor):
    """A linear diagonal guide with ``factor`` times its standard deviations."""
    K = len(guide.encoder.head.bias) // 2
    with torch.no_grad():
        guide.encoder.head.bias[K:] += 2 * torch.tensor(factor).log()
    return guide


@pytest.mark.parametrize(
    ("scales", "images"), [([6.0, 3.0, 2.0], 4), ([4.0, *[2.0] * 9], 4)], ids=["M=3", "M=10"]
)
def test_it_is_the_closed_form(scales, images):
    model, x = oracle(scales, data_dim=12)
    truth = tail_index(model)
    assert 0.4 < truth < 0.9
    found = far_tail(model, best_linear(model), as_data(x), images=images)
    assert found.tail_index.shape == (images,)
    assert (found.tail_index - truth).abs().max() < 0.03
    assert (found.effective > 30).all()
    # log w is a quadratic here: least squares knows it to rounding
    assert (found.eigenvalue - truth).abs().max() < 1e-7
    assert (1 - found.r2).abs().max() < 1e-9


def test_the_narrower_q_the_heavier_the_tail():
    """With f times the best standard deviations the index is 1 - f^2 lambda_min."""
    model, x = oracle([6.0, 3.0, 2.0], data_dim=12)
    least = 1 - tail_index(model)
    for factor in (0.5, 0.8, 1.2):
        guide = wider(best_linear(model), factor)
        found = far_tail(model, guide, as_data(x), 50_000, images=3)
        assert (found.tail_index - (1 - factor**2 * least)).abs().max() < 0.03


def test_a_mean_that_is_off_leaves_it():
    """b'u adds to log w: at d standard deviations |b| / d to the slope, nothing in the limit."""
    model, x = oracle([6.0, 3.0, 2.0], data_dim=12)
    guide = best_linear(model)
    guide.encoder.head.bias.data[:3] += 0.5 / model.posterior_precision().diagonal().sqrt()
    found = far_tail(model, guide, as_data(x), images=3)
    assert (found.eigenvalue - tail_index(model)).abs().max() < 1e-7
    assert (found.tail_index - tail_index(model)).abs().max() < 0.1


def test_a_q_too_wide_has_no_tail():
    model, x = oracle([6.0, 3.0, 2.0], data_dim=12)
    found = far_tail(model, wider(best_linear(model), 4.0), as_data(x), 10_000, images=3)
    assert (found.eigenvalue < 0).all()
    assert (found.tail_index == 0).all()
    assert (found.effective == 0).all()


@pytest.mark.parametrize("name", ["exact", "full", "full_rank"])
def test_the_posterior_has_no_tail(name):
    model, x = oracle([6.0, 2.0], data_dim=12)
    if name == "full_rank":
        guide = GUIDES[name](model, size=len(x), local_lr=0.1)
        q = model.posterior(x)
        scale = q.scale_tril.diagonal(dim1=1, dim2=2)
        below = (q.scale_tril[:, 1, 0] / scale[:, 1])[:, None] * 2**0.5
        guide.table.rows.data = torch.cat([q.mean, scale.log(), below], 1)
    else:
        guide = GUIDES["exact"](model) if name == "exact" else best_linear(model, "full")
    found = far_tail(model, guide, as_data(x), 10_000, images=3)
    assert found.tail_index.abs().max() < 1e-6
    assert found.eigenvalue.abs().max() < 1e-6


def test_rows_are_as_an_encoder_with_the_same_gaussian():
    model, x = oracle([6.0, 3.0, 2.0], data_dim=12)
    amortized = best_linear(model)
    rows = GUIDES["mean_field"](model, size=len(x))
    (parameters,) = amortized.features(Batch.of(x))
    mean, log_square = parameters.detach().chunk(2, -1)
    rows.tables["z"].rows.data = torch.cat([mean, log_square / 2], 1)
    found = []
    for guide in (amortized, rows):
        torch.manual_seed(1)
        found.append(far_tail(model, guide, as_data(x), 2000, images=2))
    torch.testing.assert_close(*found)


class Bent(Program):
    """x is a bounded function of z: far out log p(x | z) is level, near 0 it is curved."""

    def __init__(self):
        super().__init__()
        self.height = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.height.new_zeros(2), 1).to_event(1))
            likelihood = dist.Normal(self.height * z.tanh(), 1.0).to_event(1)
            return pyro.sample("x", likelihood, obs=batch.x)


class Fixed(Guide):
    """A Gaussian at zero, the same for every datum."""

    def forward(self, batch):
        with data_plate(batch):
            q = dist.Normal(self.model.height.new_zeros(2), torch.tensor([0.7, 0.5])).to_event(1)
            return pyro.sample("z", q.expand([len(batch.index)]))


def test_off_quadratics_the_draws_are_believed():
    """log w ends as |u|^2 / 2 - |z|^2 / 2, so its index is 1 - 0.5^2; near 0 it is less curved."""
    model = Bent()
    found = far_tail(model, Fixed(model), as_data(torch.zeros(3, 2)))
    assert (found.r2 < 0.7).all()
    assert (found.eigenvalue < 0.4).all()
    assert (found.tail_index - 0.75).abs().max() < 0.1


def test_the_heavier_side_is_seen_where_the_weights_lean_to_the_other():
    """log w = 1.5 u, and 0.35 u^2 more on the left: at d deviations the slope is 0.7 - 1.5 / d.

    On the right it is 1.5 / d; the draws see from d = 5 to 14.
    """

    def log_w(u):
        return 1.5 * u[:, 0] + 0.35 * u[:, 0].clamp(max=0) ** 2 - u[:, 1] ** 2

    tail, _, eigenvalue, _ = tail_of(log_w, 2, 100_000, torch.finfo(torch.float64).eps)
    assert eigenvalue == pytest.approx(0.35, abs=0.02)
    assert 0.7 - 1.5 / 5 < tail < 0.7 - 1.5 / 14


def test_it_is_found_in_float32_and_of_the_first_images():
    torch.set_default_dtype(torch.float32)
    model = VAE((1, 8, 8), latent_dim=2, likelihood="bernoulli")
    data = as_data(torch.rand(4, 1, 8, 8).round())
    found = far_tail(model, GUIDES["amortized"](model), data, 2000, images=2)
    assert found.tail_index.shape == (2,)
    assert all(column.isfinite().all() for column in found)


@pytest.mark.parametrize("name", ["flow", "mixture", "point"])
def test_other_guides_are_refused(name):
    model, x = oracle([6.0, 2.0], data_dim=12)
    options = {"size": len(x)} if name == "point" else {}
    with pytest.raises(ValueError, match="is not one Gaussian vector per datum"):
        far_tail(model, GUIDES[name](model, **options), as_data(x))


def test_hierarchies_and_too_few_draws_are_refused():
    nvae = NVAE((1, 8, 8), groups=(1, 1), latents=1, channels=4, blocks=1, cells_per_block=1)
    guide = GUIDES["top_down"](nvae, cells_per_block=1)
    with pytest.raises(ValueError, match="TopDown is not one Gaussian vector"):
        far_tail(nvae, guide, as_data(torch.rand(4, 1, 8, 8).round()))
    model, x = oracle([6.0, 2.0], data_dim=12)
    with pytest.raises(ValueError, match="30 draws are too few for 2 latents: at least 48"):
        far_tail(model, best_linear(model), as_data(x), 30)


def test_a_weight_that_is_not_finite_is_refused():
    model, x = oracle([6.0, 2.0], data_dim=12)
    x[0, 0] = float("inf")
    data = as_data(torch.zeros_like(x))
    object.__setattr__(data, "pixels", x)
    with pytest.raises(ValueError, match="datum 0 has a weight that is not finite"):
        far_tail(model, GUIDES["prior"](model), data, 100)
