"""Tables that a model looks up by the index: right on their own data, refused on all others."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from experiments.data import as_data
from experiments.data.dataset import Source
from experiments.evaluation.ais import annealed_bound
from experiments.evaluation.bounds import per_image
from experiments.evaluation.calibration import calibrate
from experiments.evaluation.gaps import local_elbo
from experiments.evaluation.khat import weights_of_draws
from experiments.evaluation.metrics import evaluate
from experiments.inference.checks.index_reads import reads_index
from experiments.inference.checks.pair_check import check_rows
from experiments.inference.fit import fit
from experiments.inference.svi import SVI
from guides import GUIDES, Guide
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program

N, D, K = 60, 4, 2


class Table(Program):
    """z ~ N(0, I), x ~ N(W z + y_n, 1/4), y a table of the model's own."""

    def __init__(self, y, how="index") -> None:
        super().__init__()
        self.W, self.how = nn.Parameter(torch.randn(D, K)), how
        self.register_buffer("y", y)

    def told(self, batch):
        if self.how == "index":
            return self.y[batch.index]
        if self.how == "embedding":
            return nn.functional.embedding(batch.index, self.y)
        if self.how == "shape":
            return batch.index.new_zeros(len(batch.index), D, dtype=self.W.dtype)
        if self.how == "season":
            return self.y[batch.index % 3]
        return batch.index.unsqueeze(-1) / batch.size

    def forward(self, batch):
        y = self.told(batch)
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.W.new_zeros(K), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z @ self.W.mT + y, 0.5).to_event(1), obs=batch.x)

    def evidence(self, x, y):
        C = self.W @ self.W.mT + 0.25 * torch.eye(D)
        return dist.MultivariateNormal(torch.zeros(D), C).log_prob(x - y).detach()


def trained(how="index"):
    torch.manual_seed(0)
    y, x = torch.randn(N, D), torch.randn(N, D)
    model = Table(y, how)
    guide = GUIDES["amortized"](model, hidden_dims=(5,))
    list(fit(SVI(model, guide), x, 2, batch_size=25))
    return model, guide, x, y


@pytest.mark.parametrize("how", ["index", "embedding"])
def test_on_its_own_data_a_table_gives_the_right_rows(how):
    model, _, x, y = trained(how)
    guide = GUIDES["prior"](model)
    rows = torch.arange(40, 50)
    bound = annealed_bound(model, guide, Batch(x[rows], rows, N), 30, 40, 4).bound
    values = per_image(model, guide, as_data(x).like(model), 20_000)  # no draw serves two rows
    torch.testing.assert_close(values["iw_bound"], model.evidence(x, y), atol=0.4, rtol=0)
    torch.testing.assert_close(bound, model.evidence(x[rows], y[rows]), atol=0.4, rtol=0)


@pytest.mark.parametrize("how", ["index", "embedding", "season", "time"])
def test_on_other_data_it_is_refused(how):
    model, guide, x, _ = trained(how)
    per_image(model, guide, as_data(x).like(model), 2)
    held_out = as_data(x).like(model)
    held_out = type(held_out)(held_out.pixels, dtype=x.dtype, source=Source(split="test"))
    for data in (as_data(x[:20]), as_data(x + 1), held_out):
        for use in (per_image, weights_of_draws, local_elbo):
            with pytest.raises(
                ValueError, match=r"^Table .*batch\.index.* other rows|^Table .*rows of other data"
            ):
                use(model, guide, data.like(model), 2)
    if how in ("index", "embedding"):
        for use in (
            lambda: annealed_bound(model, guide, Batch.of(x[:20]), 2, 2, 1),
            lambda: calibrate(model, guide, 200, 19),
            lambda: SVI(model, guide).step(Batch.of(x[:20])),
        ):
            with pytest.raises(
                ValueError, match=r"looks up a table of 60 rows by batch\.index, but"
            ):
                use()


def test_rows_of_a_guide_are_no_table_of_the_model():
    torch.manual_seed(0)
    model = Table(torch.zeros(N, D))
    model.told = lambda batch: 0.0
    guide, x = GUIDES["mean_field"](model).for_data(N), torch.randn(N, D)
    list(fit(SVI(model, guide), x, 1))
    other = guide.for_data(20)
    assert per_image(model, other, as_data(x[:20]).like(model), 2)["elbo"].isfinite().all()


def test_the_shape_of_an_index_is_not_read_from_it():
    model, guide, x, _ = trained("shape")
    assert not reads_index(model)
    assert per_image(model, guide, as_data(x[:20]).like(model), 2)["elbo"].isfinite().all()


def ranks(y, index):
    found = index.sort()
    return y[found.values][found.indices.argsort()]


def of_unique(y, index):
    values, places = index.unique(return_inverse=True)
    return y[values][places]


THROUGH = {
    "list": lambda y, index: y[index.tolist()],
    "numpy": lambda y, index: y[torch.as_tensor(index.cpu().numpy())],
    "items": lambda y, index: torch.stack([y[index[k].item()] for k in range(len(index))]),
    "iteration": lambda y, index: torch.stack([y[n] for n in index]),
    "python": lambda y, index: torch.tensor([y.tolist()[n] for n in index]),
    "parts": lambda y, index: torch.cat([y[part] for part in index.split(7)]),
    "sort": ranks,
    "unique": of_unique,
}


@pytest.mark.parametrize("how", THROUGH)
def test_a_way_through_python_or_through_parts_is_noticed(how):
    torch.manual_seed(0)
    model, x = Table(torch.randn(N, D)), torch.randn(N, D)
    model.told = lambda batch: THROUGH[how](model.y, batch.index)
    guide = GUIDES["amortized"](model, hidden_dims=(5,))
    list(fit(SVI(model, guide), x, 1))
    assert reads_index(model)
    held_out = as_data(x).like(model)
    held_out = type(held_out)(held_out.pixels, dtype=x.dtype, source=Source(split="test"))
    with pytest.raises(ValueError, match=r"^Table reads batch\.index"):
        per_image(model, guide, held_out.like(model), 2)


def test_sizes_and_the_device_of_an_index_are_not_read_from_it():
    torch.manual_seed(0)
    model, x = Table(torch.randn(N, D)), torch.randn(N, D)

    def zeros(batch):
        index = batch.index
        assert [len(index)] == [*index.shape] == [*index.size()] == [index.numel()]
        assert index.dim() == index.ndim == 1
        return torch.zeros(len(index), D, device=index.device)

    model.told = zeros
    guide = GUIDES["amortized"](model, hidden_dims=(5,))
    list(fit(SVI(model, guide), x, 1))
    assert not reads_index(model)


class OwnRows(Guide):
    """A mean per datum, looked up by hand."""

    def __init__(self, model) -> None:
        super().__init__(model)
        self.loc = nn.Parameter(torch.zeros(N, K))

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", dist.Normal(self.loc[batch.index], 0.5).to_event(1))


@pytest.mark.parametrize("reader", ["model", "guide", "none"])
def test_a_loader_that_tells_no_positions_serves_programs_that_read_none(reader):
    """Every batch would be taken for rows 0 to 19."""
    torch.manual_seed(0)
    model = Table(torch.randn(N, D))
    if reader != "model":
        model.told = lambda batch: 0.0
    guide = OwnRows(model) if reader == "guide" else GUIDES["amortized"](model, hidden_dims=(5,))
    steps = fit(SVI(model, guide), DataLoader(torch.randn(N, D), 20), 1)
    if reader == "none":
        assert len(list(steps)) == 1
        return
    with pytest.raises(ValueError, match=r"looks rows up by batch\.index"):
        list(steps)


@pytest.mark.parametrize("kind", ["own", "auto_normal"])
def test_rows_of_another_guide_are_not_taken_for_those_of_other_data(kind):
    torch.manual_seed(0)
    model, x = Table(torch.zeros(N, D)), torch.randn(N, D)
    model.told = lambda batch: 0.0
    guide = OwnRows(model) if kind == "own" else GUIDES["auto_normal"](model).for_data(N)
    list(fit(SVI(model, guide), x, 1))
    check_rows(model, guide, as_data(x).like(model))
    with pytest.raises(ValueError, match=r"mean_field, full_rank (or|and) point"):
        evaluate(model, guide, x + 1)
