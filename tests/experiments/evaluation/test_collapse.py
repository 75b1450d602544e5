"""What is warned of: latents that carry nothing, and a sigma that runs off."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.inference.collapse import collapse_warnings, noise_warnings
from experiments.inference.objectives import AnalyticKL
from experiments.inference.optim import adam
from experiments.inference.svi import SVI, Pair
from guides import GUIDES
from ppl_models import NVAE, PPCA, VAE, Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program


def ppca(rows: int = 50) -> tuple[PPCA, Batch]:
    x = torch.randn(rows, 2) @ torch.randn(2, 6) + 0.3 * torch.randn(rows, 6)
    return PPCA.maximum_likelihood(x, 2), Batch.of(x)


def nvae() -> tuple[Pair, Batch]:
    model = NVAE((1, 4, 4), (1, 1), 2, 2, blocks=1, cells_per_block=1, depthwise=False, crop=0)
    pair = Pair(model, GUIDES["top_down"](model, cells_per_block=1))
    return pair, Batch.of(torch.rand(6, 1, 4, 4).round())


def test_a_healthy_model_gives_none():
    model, batch = ppca()
    assert collapse_warnings(model, GUIDES["exact"](model), batch) == {}


def test_a_trained_vae_gives_none():
    _, batch = ppca()
    model = VAE((6,), latent_dim=2, hidden_dims=(10,))
    guide = GUIDES["amortized"](model, hidden_dims=(10,))
    svi = SVI(model, guide, adam(model, guide, 0.02), AnalyticKL())
    for _ in range(200):
        svi.step(batch)
    assert collapse_warnings(model, guide, batch) == {}


def test_a_guide_that_gives_the_prior_is_named():
    model, batch = ppca()
    guide = GUIDES["amortized"](model, hidden_dims=(5,))
    with torch.no_grad():
        model.W.zero_()  # so nothing is known of z
    exact = GUIDES["exact"](model)
    words = collapse_warnings(model, exact, batch)
    assert list(words) == ["z"]
    assert words["z"].startswith("z carries ")
    assert "nats: its posterior equals its prior (posterior collapse): train" in words["z"]
    assert "z" not in collapse_warnings(model, guide, batch)


def test_of_a_hierarchy_the_group_is_named():
    pair, batch = nvae()
    assert collapse_warnings(pair.model, pair.guide, batch) == {}
    with torch.no_grad():  # the prior's location plus zero, its scale times one
        for parameter in pair.guide.samplers[1].parameters():
            parameter.zero_()
    words = collapse_warnings(pair.model, pair.guide, batch)
    assert words == {
        "z1": "z1 carries 0 nats: its posterior equals its prior (posterior collapse): "
        "train longer, in smaller batches, or with --kl-anneal"
    }


class OfParts(Program):
    """z ~ N(0, 1) in a plate inside that of the data, where the class y has no effect."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))

    def forward(self, batch):
        x = None if batch.x is None else batch.x.T
        with data_plate(batch):
            prior = dist.Categorical(torch.ones(2) / 2)
            y = pyro.sample("y", prior, infer={"enumerate": "parallel"})
            with pyro.plate("parts", 6, dim=-2):
                z = pyro.sample("z", dist.Normal(self.loc[y], 1.0))
                return pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class PriorOfParts(Program):
    """q(z | x) = p(z)."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        with data_plate(batch), pyro.plate("parts", 6, dim=-2):
            pyro.sample("z", dist.Normal(self.loc, 1.0))


def test_the_prior_of_all_parts_counts_once():
    """With y summed out, the parts of a datum have one prior together."""
    _, batch = ppca()
    assert list(collapse_warnings(OfParts(), PriorOfParts(), batch)) == ["z"]


@pytest.mark.parametrize("guide", ["prior", "point"])
def test_of_the_prior_and_of_points_no_kl_is_asked(guide):
    model, batch = ppca()
    q = GUIDES[guide](model).for_data(len(batch.index))
    assert collapse_warnings(model, q, batch) == {}


@pytest.mark.parametrize(
    ("likelihood", "name"), [(None, "log_sigma"), ("gaussian", "likelihood.log_sigma")]
)
def test_a_sigma_that_runs_off(likelihood, name):
    model, batch = ppca()
    if likelihood:
        model = VAE((6,), latent_dim=2, likelihood=likelihood)
    guide = GUIDES["mean_field"](model).for_data(len(batch.index))
    nn.init.normal_(next(guide.parameters()))
    log_sigma = dict(model.named_parameters())[name]
    for exponent, said in (
        (1e-4, "sigma = 0.0001 at data of scale "),
        (2e4, "sigma = 2e+04 at data of"),
    ):
        with torch.no_grad():
            log_sigma.fill_(torch.tensor(exponent).log())
        words = collapse_warnings(model, guide, batch)
        assert list(words) == [name]
        assert words[name].startswith(said)
    assert "noise" in words[name]


def test_a_sigma_inside_a_mask_or_an_expansion():
    model, batch = ppca()
    pixels = dist.Normal(batch.x, 1e-9)
    masked = pixels.mask(batch.x > 0)
    expanded = dist.ExpandedDistribution(pixels, batch.x.shape)
    for likelihood in (masked, masked.to_event(1), expanded.to_event(1)):
        assert list(noise_warnings(model, likelihood, batch.x)) == ["log_sigma"]


def test_the_scale_is_the_datas_own():
    """The same sigma at pixels in [0, 1], and at data ten thousand times smaller."""
    model, batch = ppca()
    small = batch._replace(x=batch.x * 1e-5)
    for data, expected in ((batch, []), (small, ["log_sigma"])):
        guide = GUIDES["mean_field"](model).for_data(len(batch.index))
        nn.init.normal_(next(guide.parameters()))
        assert list(collapse_warnings(model, guide, data)) == expected
    constant = Batch.of(torch.full((5, 6), 0.5))
    with torch.no_grad():
        model.log_sigma.fill_(-12)
    assert "log_sigma" in collapse_warnings(model, GUIDES["exact"](model), constant)


def test_looking_changes_nothing():
    pair, batch = nvae()
    SVI(pair.model, pair.guide, adam(pair.model, pair.guide), AnalyticKL()).gradients(batch)
    pair.guide.eval()
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    grads = [p.grad.clone() for p in pair.parameters()]
    modes, random = [part.training for part in pair.modules()], torch.get_rng_state()
    collapse_warnings(pair.model, pair.guide, batch)
    assert torch.equal(torch.get_rng_state(), random)
    assert [part.training for part in pair.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(pair.parameters(), grads, strict=True))
    assert pyro.infer.util.is_validation_enabled()
