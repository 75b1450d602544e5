"""Programs that people write whose numbers would be wrong without a word: refused, or made right.

Every case was found by comparing a program's figures with a closed form.
"""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from experiments.data import as_data
from experiments.evaluation.ais import annealed_bound
from experiments.evaluation.comparison import Entry, Row
from experiments.evaluation.metrics import evaluate
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models.batch import Batch, data_plate
from tests.shared.linear_pair import SOME, D, Encoder, Linear, Missing, N, ToPoint, Transformed, X


class RowsPlate(Linear):
    def plate(self, batch):
        return pyro.plate("rows", len(batch.index))


class MeanOfRows(Linear):
    def mean(self, z, batch):
        return z + z.mean(-2, keepdim=True)


class Standardised(Linear):
    def mean(self, z, batch):
        return z + (0.0 if batch.x is None else batch.x.mean(0))


class Scaled(Linear):
    def prior(self):
        with poutine.scale(scale=0.1):
            return super().prior()


class Masked(Linear):
    def prior(self):
        with poutine.mask(mask=torch.tensor(False)):
            return super().prior()


class ThroughAnother(Encoder):
    def forward(self, batch):
        with data_plate(batch):
            a = dist.Normal(torch.zeros(D), 1.0).to_event(1)
            a = pyro.sample("a", a, infer={"is_auxiliary": True})
            pyro.sample("z", dist.Normal(batch.x / 2 + a, self.width).to_event(1))


class OfRows(Encoder):
    def forward(self, batch):
        with pyro.plate("rows", len(batch.index)):
            pyro.sample("z", self.q(batch))


REFUSED = {
    "a plate of another name": (
        RowsPlate,
        OfRows,
        "x' of RowsPlate is not observed in the plate",
    ),
    "rows that are mixed": (MeanOfRows, Encoder, "MeanOfRows mixes the rows of a batch"),
    "the batch's mean": (Standardised, Encoder, "Standardised mixes the rows of a batch"),
    "a mask on p alone": (Masked, Encoder, "a mask leaves out other entries of 'z' in Masked"),
    "an auxiliary site": (Linear, ThroughAnother, "but no latent is a function of it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_pair_is_refused_at_its_first_minibatch(case):
    model, guide, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        SVI(model(), guide(), loss=OBJECTIVES["elbo"]()).step(SOME)


def test_nor_is_it_annealed_on_all_data_where_chains_would_meet():
    with pytest.raises(ValueError, match="MeanOfRows mixes the rows of a batch"):
        annealed_bound(MeanOfRows(), Encoder(), Batch.of(X), 2, 2, 1)


@pytest.mark.parametrize(
    ("model", "guide", "words"),
    [
        (Scaled, Encoder, "Scaled scales the log-density of 'z'"),
        (Linear, ToPoint, "ToPoint gives a point for 'z' .a Delta."),
    ],
)
def test_what_may_be_trained_may_not_be_called_a_bound(model, guide, words):
    pair = model(), guide()
    assert SVI(*pair, loss=OBJECTIVES["elbo"]()).step(SOME).isfinite()
    with pytest.raises(ValueError, match=words):
        evaluate(*pair, X, 10)


def test_a_point_that_says_so_is_reported_as_a_log_joint():
    guide = ToPoint()
    guide.objective = "log_joint"
    figures = evaluate(Linear(), guide, X)
    assert figures["elbo"] is None
    assert figures["log_joint"] < 0


class Positive(MeanOfRows):
    def forward(self, batch):
        with data_plate(batch):
            x = dist.LogNormal(self.mean(self.prior(), batch), 1.0).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


def test_a_value_without_a_density_is_named_before_rows_that_are_mixed():
    svi, x = SVI(Positive(), Encoder()), SOME.x.abs() + 0.1
    negative = torch.cat([x[:1], -x[1:2], x[2:]])
    with pytest.raises(ValueError, match="to be within the support"):
        svi.step(SOME._replace(x=negative))
    with pytest.raises(ValueError, match="Positive mixes the rows of a batch"):
        svi.step(SOME._replace(x=x))


def log_evidence(x):
    return dist.Normal(1.0, math.sqrt(2)).log_prob(x).sum(1).mean().item()


def test_the_prior_is_weighed_by_what_the_model_makes_of_x():
    torch.manual_seed(0)
    figures = evaluate(Transformed(), GUIDES["prior"](Transformed()), 3 * X + 5, 20_000)
    assert figures["iw_bound"] == pytest.approx(log_evidence(X), abs=0.05)
    coded = X.clone()
    coded[:3] = -9
    found = evaluate(Missing(), GUIDES["prior"](Missing()), coded, 20_000)["iw_bound"]
    assert found == pytest.approx(log_evidence(X[3:]) * (N - 3) / N, abs=0.05)


def test_functions_are_no_modules():
    with pytest.raises(TypeError, match=r"is not a torch\.nn\.Module"):
        SVI(Linear().forward, Encoder())


class Heavy(Linear):
    def forward(self, batch):
        with data_plate(batch):
            z = self.prior()
            return pyro.sample("x", dist.StudentT(1.0, z).to_event(1), obs=batch.x)


def test_a_likelihood_without_a_mean_has_no_squared_error():
    figures = evaluate(Heavy(), Encoder(), X, 10)
    assert figures["squared_error"] is None
    assert math.isfinite(figures["iw_bound"])


def test_nor_has_its_row_of_a_comparison():
    model, guide = Heavy(), Encoder()
    config = SimpleNamespace(epochs=1, batch_size=N, particles=10, memory=1.0)
    svi = SVI(model, guide, torch.optim.Adam([*model.parameters(), *guide.parameters()]))
    data = as_data(X).like(model)
    row = Row.measured(Entry("q", "q", {}), "learned", 0, svi, data, config)
    assert row.own["squared_error"] is None
    assert math.isfinite(row.figures(None)["value"])


def test_as_data_is_not_rounded_until_rows_are_alike():
    far = as_data(X + 1e8)
    assert len(far.like(Linear().double())) == N
    with pytest.raises(ValueError, match="float32 rounds them to multiples of 12: subtract"):
        far.like(Linear().float())
    with pytest.raises(ValueError, match="whose square is beyond float32"):
        as_data(X * 1e30).like(Linear().float())
    with pytest.raises(ValueError, match="whose square vanishes in float32"):
        as_data(X * 1e-30).like(Linear().float())


class NumberToo(Linear):
    """A number y of every row besides x, both looked up by name."""

    def forward(self, batch):
        with data_plate(batch):
            z = self.prior()
            x = dist.Normal(self.mean(z, batch), 1.0).to_event(1)
            pyro.sample("x", x, obs=batch.obs("x"))
            pyro.sample("y", dist.Normal(z[..., 0], 1.0), obs=batch.obs("y"))


def test_nor_is_a_second_observed_site():
    data = as_data({"x": X, "y": X[:, 0] + 1e8}).like(NumberToo().double())
    assert data.others["y"].shape == (N,)
    with pytest.raises(
        ValueError, match=r"values of 'y' near 1e\+08 .* multiples of 12: subtract"
    ):
        data.like(NumberToo().float())


def test_nor_is_what_is_given():
    data = as_data(X, given={"t": X[:, 0] + 1e8, "ones": torch.ones(N, dtype=torch.float64)})
    assert data.like(Linear().double()).given["t"].dtype == torch.float64
    with pytest.raises(ValueError, match=r"values of given\['t'\] near 1e\+08 differ by"):
        data.like(Linear().float())
    few = as_data(X, given={"t": X[:, 0] * 1e30, "q": 0.3 + X * 1e-16})
    assert few.like(Linear().float()).given["t"].dtype == torch.float32


def test_a_single_row_has_no_spread():
    assert len(as_data(X[:1] + 1e8).like(Linear().float())) == 1  # a warning would be an error
    with pytest.raises(ValueError, match="whose square is beyond float32"):
        as_data(X[:1] * 1e30).like(Linear().float())
