"""Images in memory: splits, order, padding, binarisation, and real files where they lie."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.data import Data, as_data, load
from experiments.data.files.idx import MD5
from experiments.data.transforms import Scale
from experiments.errors import UsageError
from ppl_models import PPCA


def test_digits():
    train, test = load("digits")
    assert (len(train), len(test)) == (1437, 360)
    x = train.observations()
    assert x.shape == (1437, 1, 8, 8)
    assert (x.min(), x.max()) == (0, 1)
    assert train.pixels.dtype == torch.uint8
    assert train.levels == 16
    assert (load("digits")[1].pixels == test.pixels).all()
    rows = {row.numpy().tobytes() for row in train.pixels}
    assert (
        sum(row.numpy().tobytes() in rows for row in test.pixels) < 5
    )  # duplicates in the source


@pytest.mark.parametrize("rows", [slice(None), torch.tensor([2, 0])])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_what_is_observed_is_a_copy(rows, dtype):
    data = Data(torch.arange(48).reshape(3, 1, 4, 4).to(dtype), transforms=(Scale(64),))
    x = data.observations(rows)
    assert torch.equal(x, torch.arange(48).reshape(3, 1, 4, 4)[rows] / 64)
    x.zero_()
    assert data.pixels.sum() == sum(range(48))


def test_padding_is_centred_zeros():
    plain, padded = load("digits")[0], load("digits", pad=32)[0]
    x = padded.observations(torch.arange(3))
    assert x.shape == (3, 1, 32, 32)
    assert (x[:, :, 12:20, 12:20] == plain.observations(torch.arange(3))).all()
    assert x.sum() == plain.observations(torch.arange(3)).sum()


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 40),
    size=st.integers(1, 50),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 9),
)
def test_an_epoch_visits_every_row_once_in_an_order_of_its_own(count, size, seed, epoch):
    data = as_data(torch.arange(count * 2.0).reshape(count, 2))
    batches = list(data.minibatches(size, seed, epoch))
    order = torch.cat([batch.index for batch in batches])
    assert sorted(order.tolist()) == list(range(count))
    for batch in batches:
        assert batch.size == count
        assert (batch.x == data.pixels[batch.index].float()).all()
    again = torch.cat([batch.index for batch in data.minibatches(size, seed, epoch)])
    assert (order == again).all()


def test_order_depends_on_seed_and_epoch():
    data = as_data(torch.rand(50, 2))
    orders = [
        next(iter(data.minibatches(50, seed, epoch))).index
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert (orders[0] != orders[1]).any()
    assert (orders[0] != orders[2]).any()


def test_static_binarisation_is_drawn_once_and_dynamic_every_time():
    grey = load("digits")[0]
    static = load("digits", binarize="static", binarize_seed=5)[0]
    rows = torch.arange(200)
    assert (static.observations(rows) == static.observations(rows)).all()
    assert set(static.observations().unique().tolist()) == {0.0, 1.0}
    other = load("digits", binarize="static", binarize_seed=6)[0]
    assert (static.observations(rows) != other.observations(rows)).any()
    dynamic = load("digits", binarize="dynamic")[0]
    draws = torch.stack([dynamic.observations(rows) for _ in range(200)])
    assert (draws[0] != draws[1]).any()
    torch.testing.assert_close(draws.mean(0), grey.observations(rows), rtol=0, atol=0.25)
    fixed = dynamic.fixed()
    assert (fixed.observations(rows) == fixed.observations(rows)).all()
    assert fixed.sha256 == dynamic.sha256 == grey.sha256


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    count=st.integers(1, 5),
    kind=st.sampled_from([np.float32, np.float64, np.uint8]),
)
def test_arrays_of_ones_own(shape, count, kind):
    array = (np.random.default_rng(0).random((count, *shape)) * 200).astype(kind)
    data = as_data(array)
    assert len(data) == count
    x = data.observations()
    assert x.shape == (count, *shape)
    assert x.is_floating_point()
    assert x.max() <= (1 if kind == np.uint8 else 200)
    model = PPCA(int(np.prod(shape)), 1)
    batch = next(iter(data.like(model).minibatches(2, 0, 0)))
    assert batch.x.dtype == model.W.dtype
    assert batch.x.shape[1:] == (int(np.prod(shape)),)


def test_pixels_outside_the_unit_interval_are_not_binarised():
    with pytest.raises(UsageError, match=r"\[0, 1\]"):
        as_data(torch.full((2, 2), 1.5)).binarized("static", 0)


def test_folder_of_images(tmp_path):
    from PIL import Image

    for name in range(10):
        Image.new("RGB", (6, 5), (name, 0, 0)).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    train, test = load("folder", tmp_path)
    assert (len(train), len(test)) == (8, 2)
    assert train.image_shape == (3, 5, 6)
    seen = sorted([*train.pixels[:, 0, 0, 0].tolist(), *test.pixels[:, 0, 0, 0].tolist()])
    assert seen == list(range(10))


def test_torchvisions_data_sets_become_bytes(monkeypatch):
    import torchvision.datasets
    from PIL import Image

    class Cifar:
        def __init__(self, root, download, train):
            self.data = np.full((4, 32, 32, 3), 7 if train else 9, np.uint8)
            self.targets = [1, 2, 3, 4]

    class Omniglot(list):
        def __init__(self, root, download, background):
            super().__init__([(Image.new("1", (105, 105), 1), label) for label in (3, 5)])
            self._flat_character_images = [("a", 3), ("b", 5)]

    class CelebA(list):
        def __init__(self, root, download, split, transform):
            super().__init__([(transform(Image.new("RGB", (178, 218), (9, 8, 7))), None)] * 3)

    for name, fake in (("CIFAR10", Cifar), ("Omniglot", Omniglot), ("CelebA", CelebA)):
        monkeypatch.setattr(torchvision.datasets, name, fake)
    train, test = load("cifar10")
    assert train.pixels.shape == (4, 3, 32, 32)
    assert test.pixels.unique().tolist() == [9]
    strokes = load("omniglot")[0]
    assert strokes.pixels.shape == (2, 1, 28, 28)
    assert strokes.pixels.max() == 0  # white paper is zero ink
    assert strokes.labels.tolist() == [3, 5]
    with pytest.raises(UsageError, match="test characters of omniglot"):
        load("omniglot", given="labels")
    faces = load("celeba64")[0]
    assert faces.pixels.shape == (3, 3, 64, 64)
    assert faces.pixels[0, :, 0, 0].tolist() == [9, 8, 7]


def test_mnist(mnist_root):
    train, test = load("mnist", mnist_root)
    assert (len(train), len(test)) == (60000, 10000)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert isinstance(train, Data)
    for name, checksum in MD5.items():
        assert len(checksum) == 32, name


def test_a_changed_byte_of_mnist_is_noticed(mnist_root, tmp_path):
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for name in MD5:
        content = bytearray((mnist_root / "MNIST/raw" / name).read_bytes())
        content[5000] ^= name.startswith("t10k-images")
        (raw / name).write_bytes(content)
    with pytest.raises(UsageError, match="checksum"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("event_shape", [(64,), (1, 8, 8)])
def test_flipped_images_are_mirrored_whatever_shape_the_model_observes(event_shape):
    data = load("digits", flip=True)[0]
    flat = replace(data, event_shape=torch.Size(event_shape))
    batch = next(flat.minibatches(100, 0, 0))
    images, whole = batch.x.reshape(-1, 8, 8), flat.observations(batch.index).reshape(-1, 8, 8)
    mirrored = (images == whole.flip(-1)).flatten(1).all(1)
    assert ((images == whole).flatten(1).all(1) | mirrored).all()
    assert 30 <= mirrored.sum() <= 70
    assert torch.equal(
        next(flat.batches(100)).x.reshape(-1, 8, 8)[:5],
        load("digits")[0].observations(slice(5)).reshape(-1, 8, 8),
    )


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    digits, (train, test) = load_digits(), load("digits")
    known = {
        image.tobytes() + bytes([label])
        for image, label in zip(digits.images.astype(np.uint8), digits.target, strict=True)
    }
    for part in (train, test):
        for image, label in zip(part.pixels.numpy(), part.labels.tolist(), strict=True):
            assert image.tobytes() + bytes([label]) in known


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.full((20, 6), 77 / 255), "constant (all rows are alike)"),
        (torch.rand(1, 6), "constant (1 row)"),
        (torch.arange(5.0)[:, None] * torch.ones(6), "lie on a line"),
    ],
)
def test_data_that_no_ppca_fits_best(x, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        PPCA.maximum_likelihood(x, 2)
