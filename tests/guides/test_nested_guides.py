"""Top-down and bottom-up guides of any model: gradients, graphs, refusals and commands."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn

from experiments.data import as_data
from experiments.evaluation.metrics import evaluate
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from guides import GUIDES, allowed_guides, check_pair
from ppl_models import NVAE, Batch, describe
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.ladders import LADDERS, Moving

PAIRS = [
    *[(name, guide) for name in LADDERS for guide in ("top_down", "bottom_up")],
    ("moving", "top_down"),
]


def pair(name, guide, **options):
    torch.manual_seed(2)
    model = Moving() if name == "moving" else LADDERS[name]()
    return model, GUIDES[guide](model, **{"hidden_dims": (5,), **options})


def minibatch(model, rows=4, size=9):
    with torch.no_grad():
        return Batch(model(Batch.draw(rows)), torch.randperm(size)[:rows], size)


def gradients(loss, model, q):
    parameters = [*model.parameters(), *q.parameters()]
    return torch.autograd.grad(loss, parameters, materialize_grads=True)


@pytest.mark.parametrize(("name", "guide"), PAIRS)
def test_losses_and_gradients_are_those_of_pyro(name, guide):
    model, q = pair(name, guide)
    batch = minibatch(model)
    assert q(batch).keys() == describe(model).latents.keys()
    torch.manual_seed(0)
    ours = OBJECTIVES["elbo"]().differentiable_loss(model, q, batch)
    torch.manual_seed(0)
    theirs = Trace_ELBO().differentiable_loss(model, q, batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    for one, other in zip(gradients(ours, model, q), gradients(theirs, model, q), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "plain"), [("stl", "elbo"), ("dreg", "iwae")])
def test_gradients_where_supports_move(name, plain):
    """The score that is left out is zero on average, although a border has a gradient."""
    model, q = pair("moving", "top_down", hidden_dims=())
    for parameter in q.parameters():
        nn.init.normal_(parameter, std=0.15)
    batch = Batch.of(torch.tensor([0.9, -0.3]).expand(4000, 2))
    drawn = {name: [], plain: []}
    for objective, found in drawn.items():
        for _ in range(8):
            loss = OBJECTIVES[objective](2).differentiable_loss(model, q, batch) / 4000
            found.append(torch.cat([g.flatten() for g in gradients(loss, model, q)]))
    one, other = (torch.stack(found).mean(0) for found in drawn.values())
    variances = [torch.stack(found).var(0) / 8 for found in drawn.values()]
    error = (variances[0] + variances[1]).sqrt()
    assert ((one - other).abs() < 6 * error + 1e-9).all()
    assert error.norm() < 0.1 * other.norm()
    assert other[0].abs() > 10 * error[0]  # of a, which two supports depend on


@pytest.mark.parametrize(
    ("name", "guide", "objective"),
    [
        ("moving", "top_down", "elbo"),
        ("moving", "top_down", "dreg"),
        ("maps", "top_down", "elbo_analytic_kl"),
        ("positive", "bottom_up", "stl"),
    ],
)
def test_a_step_as_a_graph_is_the_eager_one(name, guide, objective, as_traced):
    """As it was traced: Inductor compiles maps to a support in test_table_of_kinds."""
    model, q = pair(name, guide)
    loss = OBJECTIVES[objective]()
    compiled, eager = SVI(model, q, loss=loss, compile=True), SVI(model, q, loss=loss)
    for k in range(3):
        batch, values = minibatch(model), []
        for svi in (compiled, eager):
            torch.manual_seed(k)
            for parameter in svi.parameters:
                parameter.grad = None
            loss = svi.gradients(batch)
            values.append([loss, *(p.grad.clone() for p in svi.parameters)])
        torch.testing.assert_close(*values, atol=1e-9, rtol=1e-9)
    assert not compiled.compiled.reasons


class Roots(Program):
    """Two latents, each with a prior of its own, that meet in x; z1 may have a feature."""

    def __init__(self, feature=None, second=None, shape=(2,)):
        super().__init__()
        self.w, self.feature = nn.Parameter(torch.tensor(0.8)), feature
        self.first = dist.Normal(torch.zeros(shape), 1.0).to_event(len(shape))
        self.second = second or self.first

    def forward(self, batch):
        with data_plate(batch):
            z0 = pyro.sample("z0", self.first)
            if self.feature:
                pyro.deterministic("h1", self.feature(z0))
            z = z0 + pyro.sample("z1", self.second)
            x = dist.Normal(self.w * z, 0.5).to_event(self.first.event_dim)
            return pyro.sample("x", x, obs=batch.x)


@pytest.mark.parametrize("shape", [(2,), ()])
def test_latents_that_only_q_ties(shape):
    model = Roots(shape=shape)
    q = GUIDES["top_down"](model, hidden_dims=(5,))
    x = torch.randn(4, *shape)
    want = dist.Normal(0.0, (0.25 + 2 * 0.64) ** 0.5).log_prob(x).sum()
    found = -OBJECTIVES["iwae"](30000).loss(model, q, Batch.of(x))
    assert found == pytest.approx(want.item(), abs=0.1)


class One(Program):
    """A single latent of any shape."""

    def __init__(self, *shape):
        super().__init__()
        self.w, self.shape = nn.Parameter(torch.tensor(0.8)), shape

    def forward(self, batch):
        prior = dist.Normal(torch.zeros(self.shape), 1.0).to_event(len(self.shape))
        with data_plate(batch):
            z = self.w * pyro.sample("map", prior)
            return pyro.sample("x", dist.Normal(z, 0.5).to_event(len(self.shape)), obs=batch.x)


@pytest.mark.parametrize("guide", ["top_down", "bottom_up"])
def test_a_single_latent(guide):
    with pytest.raises(ValueError, match=rf"'{guide}' does not fit One, which takes .*amortized"):
        check_pair(One(3), guide)
    model = One(1, 3, 3)
    check_pair(model, guide)
    svi = SVI(model, GUIDES[guide](model, hidden_dims=()))
    batch = minibatch(model)
    first = svi.step(batch)
    for _ in range(30):
        svi.step(batch)
    assert svi.evaluate_loss(batch) < first


def test_what_was_a_feature_has_another_shape():
    model = Roots(lambda z: z[..., :1])
    q = GUIDES["top_down"](model)
    assert q(minibatch(model))["z1"].shape == (4, 2)
    model.feature = lambda z: z
    with pytest.raises(ValueError, match=r"'h1', whose shape is \[2\], not \[1\] as before"):
        q(minibatch(model))


POISSON = dist.Poisson(torch.ones(2)).to_event(1)
WRONG = {
    "no row per datum": (lambda: Roots(lambda z: z.mT @ z), r"\[2, 2\] for 2 rows and \[2, 2\]"),
    "a row per pair": (lambda: Roots(lambda z: z @ z.mT), r"\[2, 2\] for 2 rows and \[3, 3\]"),
    "discrete": (
        lambda: Roots(second=POISSON),
        r"'z1' \(Poisson\) has none: take the guide prior",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_in_one_line(case):
    make, words = WRONG[case]
    with pytest.raises(ValueError, match=words) as caught:
        GUIDES["top_down"](make())
    assert "\n" not in str(caught.value)


def test_options_of_other_networks_are_refused():
    for guide, option in (("top_down", {"flows": 1}), ("bottom_up", {"channels": 8})):
        with pytest.raises(ValueError, match="a guide of Roots takes hidden_dims"):
            GUIDES[guide](Roots(), **option)
        nvae = NVAE((1, 8, 8), (1, 1), latents=2, channels=4, blocks=1, cells_per_block=1)
        with pytest.raises(ValueError, match="for other models than an NVAE"):
            GUIDES[guide](nvae, hidden_dims=(8,))


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("guide", ["top_down", "bottom_up", "top_down_mixture"])
def test_an_encoder_has_a_cell_per_block(guide, lean):
    model = NVAE((1, 8, 8), (1, 1), 2, 4, blocks=1, cells_per_block=1, lean=lean)
    for option, number in (("cells_per_block", 0), ("cells_per_group", -1)):
        with pytest.raises(ValueError, match=f"{option}={number}"):
            GUIDES[guide](model, **{option: number})
    GUIDES[guide](model, cells_per_block=1, cells_per_group=0)


def test_supports_that_move_are_for_the_way_down():
    model = Moving()
    assert allowed_guides(model) == ("prior", "top_down")
    for guide in ("bottom_up", "mean_field"):
        with pytest.raises(ValueError, match=r"'z1' .* depends on .* take the guide prior or top"):
            GUIDES[guide](model)


class Labelled(Program):
    """z0 -> z1 -> x with a covariate of z1, and labels that are summed out: of x, or of z0 too."""

    def __init__(self, of_z0):
        super().__init__()
        self.loc, self.of_z0 = nn.Parameter(torch.randn(3, 2)), of_z0

    def forward(self, batch):
        with data_plate(batch):
            probs = dist.Categorical(torch.ones(3))
            y = pyro.sample("y", probs, infer={"enumerate": "parallel"})
            loc = self.loc[y] if self.of_z0 else torch.zeros(2)
            z0 = pyro.sample("z0", dist.Normal(loc, 1.0).to_event(1))
            h1 = pyro.deterministic("h1", 0.8 * z0, event_dim=1)
            z1 = pyro.sample("z1", dist.Normal(h1 + batch.given["c"], 0.5).to_event(1))
            return pyro.sample("x", dist.Normal(z1 + self.loc[y], 0.5).to_event(1), obs=batch.x)


def test_beside_what_is_given_and_summed_out():
    data = as_data(torch.randn(6, 2), {"c": torch.randn(6, 2)})
    for of_z0, guide in ((False, "top_down"), (False, "bottom_up"), (True, "bottom_up")):
        torch.manual_seed(0)
        model = Labelled(of_z0).requires_grad_(False)
        describe(model, data)
        q, rows = GUIDES[guide](model, hidden_dims=()), data.like(model)
        assert q.context_dim == 4
        svi = SVI(model, q, torch.optim.Adam(q.parameters(), 0.05))
        for _ in range(100):
            svi.step(rows.batch(torch.arange(6)))
        want = evaluate(model, GUIDES["prior"](model), rows, 20000)["iw_bound"]
        figures = evaluate(model, q, rows, 5000)
        short = 0.1 if guide == "top_down" else 0.4  # where weights have long tails
        assert want - short < figures["iw_bound"] < want + 0.1
        assert 0 < figures["squared_error"] < 2
    model = Labelled(True)
    describe(model, data)
    with pytest.raises(ValueError, match="once for every value of a latent that is summed out"):
        SVI(model, GUIDES["top_down"](model)).step(rows.batch(torch.arange(6)))
