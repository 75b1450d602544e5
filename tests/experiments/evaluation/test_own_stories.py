"""Tools on models that tell stories of their own: subclasses, labels, names of sites."""

from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments import SVI
from experiments.data import as_data
from experiments.errors import UsageError
from experiments.evaluation.bounds import reconstruct
from experiments.evaluation.comparison import Entry, Row
from experiments.evaluation.hierarchy import resampled_groups
from experiments.evaluation.metrics import evaluate
from experiments.evaluation.oracle import gap_in_closed_form
from experiments.evaluation.sampling.samples import complete, interpolations, prior_means
from experiments.explorer.decoders import decoder_of
from guides import GUIDES, allowed_guides
from ppl_models import Batch, Program, data_plate
from ppl_models.ppca import PPCA
from ppl_models.sites import describe
from tests.shared.linear_pair import D, Linear, N, X


class Wider(PPCA):
    def prior(self):
        return dist.Normal(self.W.new_zeros(self.W.shape[1]), 3.0).to_event(1)


class Heavy(PPCA):
    def likelihood(self, z):
        return dist.Laplace(F.linear(z, self.W, self.mu), self.sigma).to_event(1)


def test_evidence_of_another_prior():
    model = Wider(D, 1)
    assert evaluate(model, GUIDES["prior"](model), X, 20)["log_evidence"] is None


@pytest.mark.parametrize("kind", [Wider, Heavy])
def test_exact_is_not_offered(kind):
    assert "exact" not in allowed_guides(kind(D, 1))


@pytest.mark.parametrize("kind", [Wider, Heavy])
def test_the_page_refuses_another_story(kind):
    with pytest.raises(UsageError):
        decoder_of(kind(D, 1), "mine:Wider")


class Labelled(Linear):
    def mean(self, z, batch):
        return z + 100 * batch.given["y"].unsqueeze(-1)


def test_both_ends_are_the_reconstructions():
    data = as_data(X, given={"y": torch.ones(N)})
    model = Labelled()
    describe(model, data)
    data, guide = data.like(model), GUIDES["amortized"](model, hidden_dims=(4,))
    ends = reconstruct(model, guide, data.batch(torch.tensor([0, 1])))
    assert (ends - 100).abs().max() < 20
    for way in interpolations(model, guide, data, (0, 1), 3).values():
        torch.testing.assert_close(way[[0, -1]], ends)


class Tree(Program):
    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        with data_plate(batch):
            z0 = pyro.sample("z0", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(z0, 1.0).to_event(1))
            loc = z1 + self.b + 100 * batch.given["y"].unsqueeze(-1)
            return pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=batch.x)


def test_redrawn_groups_keep_what_the_image_is_given():
    y = torch.zeros(N)
    y[-1] = 1
    data = as_data(torch.randn(N, 1), given={"y": y})
    model = Tree()
    describe(model, data)
    data, guide = data.like(model), GUIDES["bottom_up"](model, hidden_dims=())
    shown = resampled_groups(model, guide, data.batch(torch.tensor([N - 1])), 4)
    for images in shown.values():
        assert (images - 100).abs().max() < 20


class Branches(Program):
    """One z1 for each of the three parts of a datum, around its z0."""

    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        x = None if batch.x is None else batch.x.T
        with data_plate(batch):
            z0 = pyro.sample("z0", dist.Normal(self.b, 1.0))
            with pyro.plate("parts", 3, dim=-2):
                z1 = pyro.sample("z1", dist.Normal(z0, 1.0))
                return pyro.sample("x", dist.Normal(z1, 1.0), obs=x)


class OfBranches(Program):
    def __init__(self):
        super().__init__()
        self.c = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z0", dist.Normal(batch.x.mean(-1) + self.c, 1.0))
            with pyro.plate("parts", 3, dim=-2):
                pyro.sample("z1", dist.Normal(batch.x.T, 1.0))


def test_groups_in_inner_plates_are_redrawn_by_row():
    shown = resampled_groups(Branches(), OfBranches(), Batch.of(100 + torch.randn(1, 3)), 4)
    assert {name: images.shape for name, images in shown.items()} == {"z0": (4, 3), "z1": (4, 3)}
    assert (shown["z1"] - 100).abs().max() < 20  # z0 is kept


class Counted(Program):
    def __init__(self, site, by_name):
        super().__init__()
        self.site, self.by_name, self.b = site, by_name, nn.Parameter(torch.zeros(2))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            seen = batch.obs(self.site) if self.by_name else batch.x
            return pyro.sample(self.site, dist.Poisson((z + self.b).exp()).to_event(1), obs=seen)


@pytest.mark.parametrize("site", ["x", "counts"])
@pytest.mark.parametrize("by_name", [True, False])
def test_a_count_has_no_temperature(site, by_name):
    shown = prior_means(Counted(site, by_name), 5, 1e-6)
    torch.testing.assert_close(shown, torch.ones(5, 2), atol=1e-4, rtol=0)  # exp(0)


class Mine(Program):
    """theta ~ N(0, I), x ~ N(theta, I)."""

    def __init__(self, latent, by_name):
        super().__init__()
        self.latent, self.by_name, self.b = latent, by_name, nn.Parameter(torch.zeros(D))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample(self.latent, dist.Normal(torch.zeros(D), 1.0).to_event(1))
            seen = batch.obs("x") if self.by_name else batch.x
            return pyro.sample("x", dist.Normal(z + self.b, 1.0).to_event(1), obs=seen)

    def posterior(self, x, observed=None):
        counts = torch.ones(D) if observed is None else observed.to(x.dtype)
        loc = counts * (x - self.b) / (1 + counts)
        return dist.Normal(loc, (1 + counts).rsqrt()).to_event(1)


@pytest.mark.parametrize("latent", ["z", "theta"])
@pytest.mark.parametrize("by_name", [False, True])
def test_the_exact_guide_has_no_gap(latent, by_name):
    model = Mine(latent, by_name)
    gap = gap_in_closed_form(model, GUIDES["exact"](model), as_data({"x": X} if by_name else X))
    torch.testing.assert_close(gap, torch.zeros(N), atol=1e-10, rtol=0)


@pytest.mark.parametrize("latent", ["z", "theta"])
def test_completions_are_the_posterior_mean(latent):
    model, seen = Mine(latent, False), torch.tensor([True, False])
    shown, how = complete(model, as_data(X).like(model), seen)
    assert how["estimator"] == "exact"
    torch.testing.assert_close(shown, (X / 2 * seen).detach())


class Classes(Program):
    def __init__(self):
        super().__init__()
        self.W = nn.Linear(2, 3 * D)

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            logits = self.W(z).unflatten(-1, (D, 3))
            return pyro.sample("x", dist.Categorical(logits=logits).to_event(1), obs=batch.x)


def test_compare_takes_classes_which_have_no_squared_error():
    model = Classes()
    data = as_data(torch.randint(3, (N, D))).like(model)
    guide = GUIDES["amortized"](model, hidden_dims=(4,))
    config = SimpleNamespace(epochs=1, batch_size=N, particles=2, memory=1.0)
    svi = SVI(model, guide, torch.optim.Adam([*model.parameters(), *guide.parameters()]))
    row = Row.measured(Entry("amortized", "amortized", {}), "learned", 0, svi, data, config)
    assert row.own["squared_error"] is None
