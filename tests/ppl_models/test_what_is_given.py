"""What a program reads without its being given is named; other errors are the program's own."""

from typing import NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch

from experiments.inference.svi import SVI
from ppl_models import Batch, Program, data_plate, describe
from ppl_models.batch import needs_given
from tests.shared.linear_pair import Linear, X

LABELLED = Batch.draw(2)._replace(given={"y": torch.zeros(2)})


class OwnBatch(NamedTuple):
    """A user's batch, with nothing given."""

    x: torch.Tensor
    index: torch.Tensor
    size: int


OWN = OwnBatch(torch.zeros(2), torch.arange(2), 2)


@pytest.mark.parametrize("batch", [Batch.draw(2), LABELLED, OWN], ids=["ours", "labelled", "own"])
def test_a_key_of_another_dictionary_is_not_said_to_be_one_of_given(batch):
    with pytest.raises(KeyError, match="depth"), needs_given(batch):
        {}["depth"]


class Lookup(Program):
    """A story that looks up a number among its own, under a name that is not there."""

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), {"depth": 1.0}["width"]).to_event(1))
            return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=batch.x)


class OfTorch(Program):
    """A story or guide with a distribution that Pyro cannot call."""

    def forward(self, batch):
        with data_plate(batch):
            q = torch.distributions.Normal(torch.zeros(len(batch.index), 2), 1.0)
            pyro.sample("z", torch.distributions.Independent(q, 1))


def test_a_distribution_of_torch_is_named():
    words = "cannot draw from torch.distributions.Independent: use Independent of pyro"
    with pytest.raises(ValueError, match=words):
        describe(OfTorch())
    with pytest.raises(ValueError, match=words):
        SVI(Linear(), OfTorch()).step(Batch.of(X))


def test_a_story_that_is_wrong_by_itself_is_told_so():
    with pytest.raises(KeyError, match="width"):
        describe(Lookup())


def test_what_is_not_given_is_named():
    words = r"reads batch.given\['z'\], and y is given\. .* given=\{'z': \.\.\.\}\)"
    with pytest.raises(ValueError, match=words), needs_given(LABELLED) as batch:
        batch.given["z"]


def test_what_is_given_is_read_and_repeated():
    with needs_given(LABELLED._replace(x=torch.zeros(2, 1))) as batch:
        assert batch.repeated(3).given["y"].shape == (6,)
        assert list(batch.given) == ["y"]
        assert batch.given.get("z") is None


@pytest.mark.parametrize(
    "index", [torch.arange(2), [0, 1], range(2)], ids=["tensor", "list", "range"]
)
def test_the_plate_of_a_users_batch_takes_positions_of_any_kind(index):
    with data_plate(OWN._replace(index=index)):
        assert pyro.sample("z", dist.Normal(0.0, 1.0)).shape == (2,)
