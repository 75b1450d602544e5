"""Forms that programs of papers and tutorials have: right numbers, or one line.

Masks inside ``to_event``, Pyro's own effect guides, guides with factors, relaxed latents, plates
of any name: each is compared with a closed form.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDelta, AutoGuideList, AutoNormal, AutoNormalMessenger
from torch import nn

from experiments.evaluation.ais import sandwich
from experiments.evaluation.metrics import evaluate
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import PPCA, Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.linear_pair import D, Encoder, Linear, N, Parts, X

EVERYTHING = Batch.of(X)
LOG_P = dist.Normal(1.0, math.sqrt(2)).log_prob(X).sum(1).mean().item()


def test_pyros_effect_guides_keep_their_likelihood():
    model = Linear()
    guide = AutoNormalMessenger(model)  # q = N(0, 0.1^2) at its start
    guide(EVERYTHING)
    kl = D * (math.log(10) + (0.01 - 1) / 2)
    likelihood = -0.5 * (math.log(2 * math.pi) + (X - 1) ** 2 + 0.01).sum(1)
    torch.manual_seed(0)
    figures = evaluate(model, guide, X, 2000)
    assert figures["elbo"] == pytest.approx((likelihood - kl).mean().item(), abs=0.02)
    losses = []
    for validated in (True, False):
        torch.manual_seed(0)
        with pyro.validation_enabled(validated):
            losses.append(SVI(model, guide).evaluate_loss(EVERYTHING))
    torch.testing.assert_close(*losses)


class Padded(Linear):
    """A latent and an observation that count in even rows, masked as in Pyro's Markov model."""

    def forward(self, batch):
        seen = (batch.index % 2 == 0).unsqueeze(-1)
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).mask(seen).to_event(1))
            x = dist.Normal(z + self.loc, 1.0).mask(seen).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


class PaddedToo(Encoder):
    def q(self, batch):
        seen = (batch.index % 2 == 0).unsqueeze(-1)
        return dist.Normal((batch.x - 1) / 2, math.sqrt(0.5)).mask(seen).to_event(1)


def test_a_mask_inside_the_event_is_compared():
    with pytest.raises(ValueError, match="a mask leaves out other entries of 'z' in Padded"):
        SVI(Padded(), Encoder()).step(EVERYTHING)
    even = dist.Normal(1.0, math.sqrt(2)).log_prob(X[::2]).sum().item() / N
    assert evaluate(Padded(), PaddedToo(), X, 5)["elbo"] == pytest.approx(even)


def test_an_autoguide_cannot_mask_what_the_model_masks():
    guide = AutoNormal(Padded(), create_plates=data_plate)
    guide(EVERYTHING)
    with pytest.raises(ValueError, match="a mask leaves out other entries of 'z' in Padded"):
        SVI(Padded(), guide).step(EVERYTHING)


class WithFactor(Encoder):
    """The loss of a classifier, here a constant of 5 nats per datum."""

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", self.q(batch))
            pyro.factor("classifier", 5.0 * torch.ones(len(batch.index)), has_rsample=False)


class Observing(Encoder):
    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", self.q(batch))
            pyro.sample("x", dist.Normal(torch.zeros(D), 50.0).to_event(1), obs=batch.x)


def test_a_factor_of_the_guide_is_trained_by_every_objective_and_is_in_no_bound():
    for name in ("elbo", "elbo_analytic_kl", "elbo_free_bits", "stl", "iwae"):
        losses = []
        for guide in (WithFactor(), Encoder()):
            torch.manual_seed(0)
            svi = SVI(Linear(), guide, loss=OBJECTIVES[name]())
            losses.append(svi.evaluate_loss(EVERYTHING).item())
        assert losses[0] - losses[1] == pytest.approx(5.0), name
    with pytest.raises(ValueError, match="WithFactor has the factor 'classifier'"):
        evaluate(Linear(), WithFactor(), X, 10)


def test_a_guide_observes_nothing():
    with pytest.raises(ValueError, match="Observing observes 'x', whose density would be"):
        SVI(Linear(), Observing()).step(EVERYTHING)


@pytest.mark.parametrize("handler", [poutine.scale, pyro.infer.config_enumerate])
def test_a_handler_that_hides_parameters_is_refused(handler):
    options = {"scale": 1.0} if handler is poutine.scale else {}
    words = "a handler around Encoder hides its parameters: use the handler in its forward"
    with pytest.raises(TypeError, match=words):
        SVI(Linear(), handler(Encoder(), **options))


class Relaxed(Program):
    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(3, D))

    def forward(self, batch):
        with data_plate(batch):
            prior = dist.RelaxedOneHotCategorical(torch.tensor(1.0), logits=torch.zeros(3))
            z = pyro.sample("z", prior)
            return pyro.sample("x", dist.Normal(z @ self.W, 1.0).to_event(1), obs=batch.x)


class ToRelaxed(Encoder):
    def q(self, batch):
        logits = self.width * batch.x @ torch.ones(D, 3)
        return dist.RelaxedOneHotCategorical(torch.tensor(1.0), logits=logits)


def test_a_guide_whose_mean_is_unknown_has_figures_all_the_same():
    figures = evaluate(Relaxed(), ToRelaxed(), X, 10)
    assert all(math.isfinite(figures[name]) for name in ("elbo", "iw_bound", "squared_error"))


class Clusters(Program):
    """A mixture whose component is drawn, not marked to be summed out."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor([[-10.0, -10.0], [10.0, 10.0]]))

    def forward(self, batch):
        with data_plate(batch):
            y = pyro.sample("y", dist.Categorical(torch.ones(2) / 2))
            return pyro.sample("x", dist.Normal(self.loc[y], 1.0).to_event(1), obs=batch.x)


class Several(Program):
    """Two classes in one event."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor([-10.0, 10.0]))

    def forward(self, batch):
        with data_plate(batch):
            y = pyro.sample("y", dist.Categorical(torch.ones(D, 2) / 2).to_event(1))
            return pyro.sample("x", dist.Normal(self.loc[y], 1.0).to_event(1), obs=batch.x)


class Counted(Clusters):
    """The same, but reading the index, so that draws are not shared."""

    def forward(self, batch):
        batch.index.sum()
        return super().forward(batch)


@pytest.mark.parametrize("model", [Clusters, Counted, Several])
def test_a_class_is_reconstructed_from_the_likeliest(model):
    pair = model(), GUIDES["prior"](model())
    found = evaluate(*pair, X + 10, 200)
    assert found["squared_error"] == pytest.approx(X.square().sum(1).mean().item(), rel=1e-6)


class Tracks(Linear):
    """Three measurements of z, in an inner plate of some name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, batch):
        with data_plate(batch):
            z = self.prior()
            x = None if batch.x is None else batch.x.transpose(0, 1)
            with pyro.plate(self.name, 3, dim=-2):
                return pyro.sample("x", dist.Normal(z + self.loc, 1.0).to_event(1), obs=x)


class OfTracks(Encoder):
    def q(self, batch):
        return dist.Normal((batch.x - 1).sum(1) / 4, 0.5).to_event(1)


def test_a_plate_called_particles_is_refused():
    x = torch.randn(N, 3, D)
    joint = dist.MultivariateNormal(torch.ones(3), torch.eye(3) + 1)
    log_p = joint.log_prob(x.transpose(1, 2)).sum(1).mean().item()
    for particles in (1, 4):
        figures = evaluate(Tracks("parts"), OfTracks(), x, particles)
        assert figures["elbo"] == pytest.approx(log_p)
    with pytest.raises(ValueError, match="in a plate called 'particles'"):
        SVI(Tracks("particles"), OfTracks()).step(Batch.of(x))


class Noisier(PPCA):
    """PPCA with three times the noise: the same parameters, another story."""

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", self.prior())
            x = dist.Normal(z @ self.W.mT + self.mu, 3 * self.sigma).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


def test_a_closed_form_is_that_of_the_program():
    model = Noisier(D, 1)
    assert evaluate(model, GUIDES["prior"](model), X, 20)["log_evidence"] is None
    with pytest.raises(ValueError, match="exact needs a model with a posterior"):
        GUIDES["exact"](model)
    model = PPCA(D, 1)
    assert evaluate(model, GUIDES["exact"](model), X, 1)["log_evidence"] is not None


class TwoLatents(Linear):
    def forward(self, batch):
        with data_plate(batch):
            a = pyro.sample("z0", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            b = pyro.sample("z1", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(a + b, 1.0).to_event(1), obs=batch.x)


def test_a_point_beside_a_density_is_still_a_point():
    model = TwoLatents()
    guide = AutoGuideList(model, create_plates=data_plate)
    guide.append(AutoDelta(poutine.block(model, expose=["z0"])))
    guide.append(AutoNormal(poutine.block(model, expose=["z1"])))
    guide(EVERYTHING)
    with pytest.raises(ValueError, match="gives a point for 'z0'"):
        evaluate(model, guide, X, 10)


def test_the_sandwich_refuses_latents_in_inner_plates():
    model = Parts()
    with pytest.raises(ValueError, match="in the plate 'parts' besides the data plate"):
        sandwich(model, GUIDES["prior"](model), rows=3, chains=4, steps=5, leapfrog=2)
