"""Several observed sites, what a model is given, and missing values: against closed forms."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal
from torch.utils.data import DataLoader, Dataset, TensorDataset

from experiments.data import as_data
from experiments.errors import UsageError
from experiments.evaluation.ais import annealed_bound, sandwich
from experiments.evaluation.bounds import per_image
from experiments.evaluation.calibration import calibrate
from experiments.evaluation.gaps import local_elbo
from experiments.evaluation.khat import khat, weights_of_draws
from experiments.evaluation.metrics import evaluate
from experiments.evaluation.predictive import replicated_sets
from experiments.inference.fit import fit
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.parallel import own_rows
from experiments.inference.svi import SVI
from guides import GUIDES, allowed_guides
from ppl_models import PPCA, Batch, data_plate, describe
from ppl_models.sites import request, simulate

N, M = 60, 2


class Story(nn.Module):
    """z ~ N(0, I); a ~ N(A z + B y, 1/4) and c ~ N(C z, 1/4) where the mask lets it be seen."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        sizes = {"A": (4, M), "B": (4, 3), "C": (3, M)}
        for name, size in sizes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(size, dtype=torch.float64)))

    def forward(self, batch):
        y, seen = batch.given["y"], batch.given["seen"]
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.A.new_zeros(M), 1.0).to_event(1))
            a = z @ self.A.mT + y @ self.B.mT
            pyro.sample("a", dist.Normal(a, 0.5).to_event(1), obs=batch.obs("a"))
            c = dist.Normal(z @ self.C.mT, 0.5).mask(seen)
            pyro.sample("c", c.to_event(1), obs=batch.obs("c"))

    def joint(self, batch):
        """Mean ``[B, 7]`` and covariance ``[B, 7, 7]`` of (a, c), unseen entries on their own."""
        W = torch.cat([self.A, self.C]).detach()
        mean = torch.cat([batch.given["y"] @ self.B.mT, torch.zeros(len(batch.index), 3)], 1)
        seen = torch.cat([torch.ones(len(mean), 4), batch.given["seen"]], 1).double()
        return mean.detach(), W, seen

    def evidence(self, batch):
        mean, W, seen = self.joint(batch)
        x = torch.cat([batch.x["a"], batch.x["c"]], 1)
        values = []
        for k in range(len(x)):
            rows = seen[k].bool()
            C = W[rows] @ W[rows].mT + 0.25 * torch.eye(int(rows.sum()))
            values.append(MultivariateNormal(mean[k, rows], C).log_prob(x[k, rows]))
        return torch.stack(values)


class Posterior(nn.Module):
    """p(z | a, c, y) in closed form."""

    def __init__(self, model):
        super().__init__()
        self.story = (model,)
        self.shift = nn.Parameter(torch.zeros(M, dtype=torch.float64))

    def forward(self, batch):
        mean, W, seen = self.story[0].joint(batch)
        x = torch.cat([batch.x["a"], batch.x["c"]], 1)
        precision = torch.eye(M) + 4 * torch.einsum("bd,dk,dl->bkl", seen, W, W)
        weighted = 4 * ((x - mean) * seen) @ W
        loc = torch.linalg.solve(precision, weighted) + self.shift
        with data_plate(batch):
            pyro.sample("z", dist.MultivariateNormal(loc, precision_matrix=precision))


def story():
    """A model, data that it made, and the closed forms of them."""
    model = Story()
    torch.manual_seed(0)
    given = {"y": torch.eye(3)[torch.arange(N) % 3], "seen": torch.rand(N, 3) < 0.7}
    describe(model, Batch.draw(N)._replace(given=given))
    with torch.no_grad():
        _, batch = simulate(model, N)
    data = as_data(batch.x, given).like(model)
    return model, data, Posterior(model), data.batch(torch.arange(N))


def test_every_estimator_agrees_with_the_evidence():
    model, data, exact, batch = story()
    want = model.evidence(batch)
    assert describe(model).observed == {"a": torch.Size([4]), "c": torch.Size([3])}
    assert "amortized" in allowed_guides(model)
    found = per_image(model, exact, data, 3)
    for name in ("elbo", "iw_bound"):
        torch.testing.assert_close(found[name], want)
    for name in ("elbo", "iwae", "stl", "dreg", "renyi"):
        loss = SVI(model, exact, loss=OBJECTIVES[name](2)).evaluate_loss(batch)
        torch.testing.assert_close(-loss, want.mean())
    torch.manual_seed(0)
    prior = GUIDES["prior"](model)
    assert (per_image(model, prior, data, 4000)["iw_bound"] - want).mean().abs() < 0.1
    chains = annealed_bound(model, prior, batch, 16, 60, 3)
    assert (chains.bound - want).mean().abs() < 0.1
    assert sandwich(model, prior, 60, 16, 150, 3).mean().abs() < 0.2
    assert khat(weights_of_draws(model, exact, data, 200)).max() < 0.1
    torch.manual_seed(0)
    assert calibrate(model, exact, 600, 19).passed


def test_a_minibatch_does_not_replace_what_the_data_are_given():
    model, data, exact, _ = story()
    SVI(model, exact).step(data.batch(torch.arange(2)))
    assert request(model, N).given["y"].equal(data.given["y"])


def test_a_loader_describes_the_model_once(monkeypatch):
    model, calls = Conditional(), []
    rows = [{"x": torch.zeros(4), "given": {"y": torch.ones(3)}} for _ in range(12)]
    describe(model, as_data(torch.zeros(12, 4), {"y": torch.ones(12, 3)}))
    svi = SVI(model, GUIDES["amortized"](model, hidden_dims=(3,)))
    counted = lambda *args: calls.append(1) or describe(*args)  # noqa: E731
    for module in ("streams", "observed"):
        monkeypatch.setattr(f"experiments.data.{module}.describe", counted)
    list(fit(svi, DataLoader(rows, 4), 2))
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["amortized", "mean_field", "full_rank", "flow", "mixture"])
def test_guides_learn_from_every_site_and_from_what_is_given(name):
    model, data, _, batch = story()
    model.requires_grad_(False)
    guide = GUIDES[name](model).for_data(N)
    svi = SVI(model, guide, loss=OBJECTIVES[guide.objective]())
    torch.manual_seed(0)
    assert guide.context_dim == 4 + 3 + 3 + 3 if hasattr(guide, "context_dim") else True
    list(fit(svi, data, 300 if svi.tables else 60, batch_size=20))
    figures = evaluate(model, guide, data, 200)
    want = model.evidence(batch).mean().item()
    assert figures["elbo"] < want
    assert figures["iw_bound"] == pytest.approx(want, abs=0.15)


def test_what_is_fitted_and_replicated_keeps_its_rows():
    model, data, exact, batch = story()
    guide = GUIDES["amortized"](model.requires_grad_(False), covariance="full")
    torch.manual_seed(0)
    list(fit(SVI(model, guide), data, 60, batch_size=20))
    best = local_elbo(model, guide, data.rows(10), 100, most=600).elbo
    assert (model.evidence(batch)[:10] - best).mean().abs() < 0.05
    with pytest.raises(ValueError, match="one observed site is needed here; the model has a, c"):
        replicated_sets(model, exact, data)


def gradients(svi, batch):
    """The loss and the gradients of a step."""
    for parameter in svi.parameters:
        parameter.grad = None
    return [svi.gradients(batch), *(p.grad.clone() for p in svi.parameters)]


def test_a_step_of_changing_batches_is_the_same_as_a_graph(as_traced):
    """As it was traced: in test_enumeration, Inductor compiles a mask that changes."""
    model, data, _, _ = story()
    guide = GUIDES["amortized"](model, hidden_dims=(3,))
    compiled, eager = SVI(model, guide, compile=True), SVI(model, guide)
    for k in range(6):
        rows = data.batch(torch.arange(8) + k)
        if k > 3:
            rows = rows._replace(given={"y": rows.given["y"].flip(1), "seen": ~rows.given["seen"]})
        values = []
        for svi in (compiled, eager):
            torch.manual_seed(k)
            values.append(gradients(svi, rows))
        torch.testing.assert_close(*values, atol=1e-9, rtol=1e-9)
    assert not compiled.compiled.reasons


def test_a_process_takes_its_own_rows_of_everything(monkeypatch):
    _, _, _, batch = story()
    for rank in range(2):
        monkeypatch.setattr("experiments.inference.parallel.world_size", lambda: 2)
        monkeypatch.setattr("experiments.inference.parallel.rank", lambda rank=rank: rank)
        part = own_rows(batch)
        for name, rows in {**part.x, **part.given}.items():
            whole = {**batch.x, **batch.given}[name]
            assert rows.equal(whole[rank * 30 : (rank + 1) * 30])


class Conditional(nn.Module):
    """As it is often written: z is joined to y, which has no room for particles."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.W = nn.Linear(M + 3, 4, dtype=torch.float64)

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(M), 1.0).to_event(1))
            x = self.W(torch.cat([z, batch.given["y"]], -1))
            return pyro.sample("x", dist.Normal(x, 0.5).to_event(1), obs=batch.x)


def test_particles_of_a_conditional_model():
    y, model = torch.eye(3)[torch.arange(N) % 3], Conditional()
    x = torch.randn(N, 4)
    data = as_data(x, {"y": y}).like(model)
    W = model.W.weight.detach()
    mean = y @ W[:, M:].mT + model.W.bias.detach()
    C = W[:, :M] @ W[:, :M].mT + 0.25 * torch.eye(4)
    want = MultivariateNormal(mean, C).log_prob(x).mean()
    torch.manual_seed(0)
    figures = evaluate(model, GUIDES["prior"](model), data, 4000)
    assert figures["iw_bound"] == pytest.approx(want.item(), abs=0.1)


class Rows(Dataset):
    def __init__(self, *parts, names=None):
        self.parts, self.names = parts, names

    def __len__(self):
        return len(self.parts[0])

    def __getitem__(self, i):
        row = tuple(part[i] for part in self.parts)
        return dict(zip(self.names, row, strict=True)) if self.names else row


def kinds_of(x, y):
    """One data set in all the forms that it comes in."""
    index = torch.arange(len(x))
    nested = [{"x": x[i], "index": i, "given": {"y": y[i]}} for i in range(len(x))]
    frame = pd.DataFrame(x.numpy())

    class HuggingFace:
        column_names = ("x",)

        def with_format(self, kind):
            assert kind == "torch"
            return self

        def __getitem__(self, rows):
            return {"x": x[rows]}

    return {
        "array": (x.numpy(), y),
        "lists": (x.tolist(), y),
        "DataFrame": (frame, y.numpy()),
        "dictionary": ({"x": x, "given": {"y": y}}, None),
        "dictionary of frames": ({"x": frame, "given": {"y": pd.DataFrame(y.numpy())}}, None),
        "TensorDataset": (TensorDataset(x), y),
        "Dataset": (Rows(x, index), y),
        "Dataset of dictionaries": (Rows(x, names=("x",)), y),
        "Hugging Face": (HuggingFace(), y),
        "DataLoader": (DataLoader(nested, 20), None),
    }


KINDS = list(kinds_of(torch.zeros(1, 4), torch.zeros(1, 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_one_data_set_in_every_form(kind):
    torch.manual_seed(0)
    x, y = torch.randn(40, 4), torch.eye(3)[torch.arange(40) % 3]
    data, given = kinds_of(x, y)[kind]
    model = Conditional()
    describe(model, as_data(x, {"y": y}))
    losses = []
    for rows in (data if given is None else as_data(data, {"y": given}), as_data(x, {"y": y})):
        torch.manual_seed(0)
        again = Conditional()
        describe(again, as_data(x, {"y": y}))
        svi = SVI(again, GUIDES["amortized"](again), torch.optim.SGD(again.parameters(), 0.0))
        losses.append(next(fit(svi, rows, 1, batch_size=40)).loss)
    if kind == "DataLoader":  # in an order and in batches of its own
        assert losses[0] == pytest.approx(losses[1], rel=0.2)
    else:
        assert losses[0] == losses[1]


def test_missing_values_become_zeros_under_a_mask():
    x = np.array([[1.0, np.nan], [np.nan, 2.0]])
    data = as_data(x, missing="mask")
    assert data.pixels.tolist() == [[1.0, 0.0], [0.0, 2.0]]
    assert data.given["mask"].tolist() == [[True, False], [False, True]]
    data = as_data({"a": x, "b": x[:, 0]}, missing="mask")
    assert data.given["mask_b"].tolist() == [True, False]
    with pytest.raises(UsageError, match="NaN or infinite"):
        as_data(x)
    with pytest.raises(UsageError, match="NaN or infinite"):
        as_data(np.array([[np.inf, np.nan]]), missing="mask")


def with_batch(change):
    model, _, exact, batch = story()
    SVI(model, exact).evaluate_loss(change(batch))


A = torch.zeros(N, 4)
WRONG = {
    "a site is missing": (
        lambda: with_batch(lambda b: b._replace(x={"a": b.x["a"]})),
        "the batch lacks 'c': Story observes a, c, batch.x has a",
    ),
    "a site too many": (
        lambda: with_batch(lambda b: b._replace(x={**b.x, "d": b.x["a"]})),
        "the batch has 'd': Story observes a, c",
    ),
    "other lengths": (
        lambda: with_batch(lambda b: b._replace(x={**b.x, "c": b.x["c"][:5]})),
        "'c' has 5 rows and batch.index 60",
    ),
    "nothing given": (
        lambda: with_batch(lambda b: b._replace(given={"y": b.given["y"]})),
        r"reads batch.given\['seen'\], and y is given",
    ),
    "no example": (lambda: GUIDES["amortized"](Story()), r"reads batch.given\['y'\], and nothing"),
    "a tensor": (lambda: as_data(A).like(story()[0]), "c is missing"),
    "a surplus column": (
        lambda: as_data(
            {"a": torch.zeros(N, 4), "c": torch.zeros(N, 3), "d": torch.zeros(N)}
        ).like(story()[0]),
        "the data have d, which the model does not observe",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_in_one_line(case):
    call, words = WRONG[case]
    with pytest.raises((ValueError, UsageError), match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


X, Y = torch.zeros(8, 4), torch.zeros(8, 3)
LOADERS = {
    "pairs of floats": (TensorDataset(X, X[:, 0]), r"a DataLoader yields x, \(x, index\)"),
    "labels": (TensorDataset(X, X[:, 0].long()), "a row comes twice in an epoch"),
    "positions out of range": (TensorDataset(X, torch.arange(8) + 1), "must lie in 0 to 7"),
    "no positions": (Rows(X, names=("x",)), r"looks rows up by batch\.index"),
}


@pytest.mark.parametrize("case", LOADERS)
def test_a_loader_whose_rows_cannot_be_told_apart_is_refused(case):
    dataset, words = LOADERS[case]
    model = PPCA(4, 2).double()
    svi = SVI(model, GUIDES["mean_field"](model).for_data(8))
    with pytest.raises((ValueError, UsageError), match=words) as caught:
        list(fit(svi, DataLoader(dataset, 4), 1))
    assert "\n" not in str(caught.value)
