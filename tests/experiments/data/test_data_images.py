"""Folders of images: what each mode, format and layout becomes, from files made here."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import pca
from experiments.data import load
from experiments.data.files.image_files import FORMATS
from experiments.errors import UsageError
from experiments.reports.plots import encodings
from experiments.runs.cli import cli
from tests.shared.commands import refused

RAMP = np.add.outer(np.arange(8), np.arange(8)) / 14  # in [0, 1]
BYTES = (255 * RAMP).round().astype(np.uint8)


def folder(path: Path, image, suffix: str = "png", count: int = 5, **options) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image.save(path / f"{number}.{suffix}", **options)
    return path


def pixels_of(path: Path, notes: list[str] | None = None, **options) -> np.ndarray:
    """The one image that a folder holds several times."""
    said: list[str] = [] if notes is None else notes
    train, test = load("folder", path, say=said.append, **options)
    every = torch.cat([train.pixels, test.pixels])
    assert (every == every[0]).all()
    assert every.dtype == torch.uint8
    return every[0].numpy()


def tiff(values: np.ndarray, **tags: int) -> bytes:
    """An uncompressed little-endian TIFF of one strip, with tags that Pillow does not write."""
    entries = {
        256: values.shape[1],
        257: values.shape[0],
        258: 8 * values.itemsize,
        259: 1,
        262: tags.get("photometric", 1),
        277: 1,
        278: values.shape[0],
        279: values.nbytes,
        339: tags["format"],
    }
    entries[273] = 8 + 2 + 12 * (len(entries) + 1) + 4
    body = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    for tag, value in sorted(entries.items()):
        body += struct.pack("<HHII", tag, 4, 1, value)
    return body + struct.pack("<I", 0) + values.tobytes()


def png(rows: np.ndarray, colour: int) -> bytes:
    """A PNG of 16 bits per channel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 16, colour, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b""))
    )


def same_bytes(path: Path, content: bytes, suffix: str) -> Path:
    path.mkdir()
    for number in range(5):
        (path / f"{number}.{suffix}").write_bytes(content)
    return path


GREY = Image.fromarray(BYTES)
RGB = Image.merge("RGB", [GREY, GREY.rotate(90), GREY.rotate(180)])
SHADES = np.stack([BYTES, np.rot90(BYTES), np.rot90(BYTES, 2)])


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (GREY, "png", BYTES[None]),
        (GREY, "BMP", BYTES[None]),
        (GREY, "webp", np.stack([BYTES] * 3)),
        (GREY.convert("P"), "png", BYTES[None]),
        (GREY.convert("P"), "gif", BYTES[None]),
        (Image.fromarray(BYTES > 99), "png", 255 * (BYTES > 99)[None]),
        (Image.merge("LA", [GREY, Image.new("L", (8, 8), 255)]), "png", BYTES[None]),
        (RGB, "png", SHADES),
        (Image.merge("RGBA", [*RGB.split(), Image.new("L", (8, 8), 255)]), "png", SHADES),
        (RGB.convert("CMYK"), "tif", SHADES),
        (Image.fromarray(257 * BYTES.astype(np.uint16)), "png", BYTES[None]),
        (Image.fromarray(257 * BYTES.astype(np.uint16)), "tiff", BYTES[None]),
        (Image.fromarray((257 * BYTES.astype(np.uint16)).astype(">u2")), "tiff", BYTES[None]),
        (Image.fromarray(257 * BYTES.astype(np.uint16)), "pgm", BYTES[None]),
    ],
    ids=lambda value: getattr(value, "mode", value) if not isinstance(value, np.ndarray) else "",
)
def test_modes_with_a_natural_range(tmp_path, image, suffix, expected):
    options = {"lossless": True} if suffix == "webp" else {}
    assert (pixels_of(folder(tmp_path / "x", image, suffix, **options)) == expected).all()


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (RAMP.astype(np.float32), "from 0 to 1"),
        ((300 * RAMP).astype(np.float32), "from 0 to 300"),
        ((70_000 * RAMP).astype(np.int32), "from 0 to 70000"),
        ((2000 * (RAMP - 0.5)).astype(np.int32), "from -1000 to 1000"),
        ((2000 * (RAMP - 0.5)).astype(np.int16), "from -1000 to 1000"),
        ((200 * (RAMP - 0.5)).astype(np.int8), "from -100 to 100"),
        ((4e9 * RAMP).astype(np.uint32), r"from 0 to 4e\+09"),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_numbers_without_a_range(tmp_path, values, found):
    kind = {"f": 3, "i": 2, "u": 1}[values.dtype.kind]
    path = same_bytes(tmp_path / "x", tiff(values, format=kind), "tif")
    with pytest.raises(UsageError, match=found):
        pixels_of(path)
    low, high = float(values.min()), float(values.max())
    exact = np.rint(255 * (values.astype(float) - low) / (high - low))
    assert (pixels_of(path, value_range=(low, high)) == exact[None]).all()
    with pytest.raises(UsageError, match="outside of --value-range"):
        pixels_of(path, value_range=(low, high - 0.4 * (high - low)))


def test_numbers_that_are_not_finite(tmp_path):
    image = Image.fromarray(np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32))
    with pytest.raises(UsageError, match="NaN"):
        pixels_of(folder(tmp_path / "x", image, "tif"), value_range=(0, 1))


def test_twelve_bits(tmp_path):
    image = Image.fromarray(16 * BYTES.astype(np.uint16))
    notes: list[str] = []
    path = folder(tmp_path / "x", image)
    assert (pixels_of(path, notes) == 16 * BYTES[None].astype(int) // 257).all()
    assert notes == [
        "16-bit images hold at most 4080 of 65535: --value-range 0 4080 would make that white"
    ]
    assert (pixels_of(path, value_range=(0, 4080)) == BYTES[None]).all()


def test_white_is_zero_in_sixteen_bits(tmp_path):
    values = 65535 - 257 * BYTES.astype(np.uint16)
    path = same_bytes(tmp_path / "x", tiff(values, format=1, photometric=0), "tif")
    assert (pixels_of(path) == BYTES[None]).all()


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_sixteen_bits_per_channel_are_said_to_lose_half_of_them(tmp_path, colour, channels):
    values = np.stack([257 * BYTES.astype(np.uint16)] * channels, -1)
    if channels != 3:
        values[..., -1] = 65535
    path = same_bytes(tmp_path / "x", png(values, colour), "png")
    notes: list[str] = []
    assert (pixels_of(path, notes) == np.stack([BYTES] * (1 if channels == 2 else 3))).all()
    assert notes == ["5 files have 16 bits per channel: the upper 8 are kept"]


def test_sixteen_bits_per_pixel_lose_none(tmp_path):
    """A BMP of 5, 6 and 5 bits, as small screens have."""
    header = struct.pack("<2sIHHI", b"BM", 194, 0, 0, 66)
    header += struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 16, 3, 128, 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    path = same_bytes(tmp_path / "x", header + masks + b"\xff" * 128, "bmp")
    notes: list[str] = []
    assert (pixels_of(path, notes) == np.full((3, 8, 8), 255)).all()
    assert not notes


def test_transparent_pixels(tmp_path):
    array = np.full((8, 8, 4), (255, 0, 0, 0), np.uint8)
    array[2:6, 2:6] = (0, 0, 255, 255)
    rgba = folder(tmp_path / "rgba", Image.fromarray(array))
    notes: list[str] = []
    shown = pixels_of(rgba, notes)
    blue = np.zeros((3, 8, 8))
    blue[2, 2:6, 2:6] = 255
    assert (shown == blue).all()
    assert notes == [
        "5 images have transparent pixels: composited on black (--background takes another colour)"
    ]
    white = pixels_of(rgba, background="white")
    assert (white[:, 0, 0] == 255).all()
    assert (white[:, 3, 3] == (0, 0, 255)).all()
    half = Image.merge("LA", [Image.new("L", (8, 8), 200), Image.new("L", (8, 8), 51)])
    grey = folder(tmp_path / "la", half)
    assert (pixels_of(grey) == 40).all()
    assert (pixels_of(grey, background="#ffffff") == 244).all()
    assert pixels_of(grey, background="red").shape == (3, 8, 8)
    keyed = folder(tmp_path / "key", GREY, transparency=int(BYTES[7, 7]))
    assert (pixels_of(keyed) == BYTES * (BYTES[7, 7] != BYTES)).all()
    palette = folder(tmp_path / "palette", GREY.convert("P"), transparency=255)
    assert (pixels_of(palette, background="white") == BYTES[None]).all()
    with pytest.raises(UsageError, match="not a colour"):
        pixels_of(rgba, background="whitish")


@pytest.mark.parametrize("suffix", ["png", "tiff", "jpg"])
@pytest.mark.parametrize(("orientation", "turn"), [(3, 180), (6, 90), (8, 270)])
def test_exif_orientation(tmp_path, suffix, orientation, turn):
    wide = Image.fromarray(np.repeat(BYTES, 2, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x"
    folder(path, wide, suffix, count=3)
    wide.rotate(turn, expand=True).save(path / f"turned.{suffix}", exif=exif)
    train, test = load("folder", path)
    every = torch.cat([train.pixels, test.pixels]).int()
    assert every.shape == (4, 1, 8, 16)
    assert (every - every[0]).abs().max() <= (24 if suffix == "jpg" else 0)


def animation(path: Path, suffix: str, frames: int = 4) -> Path:
    first, *more = [Image.fromarray(BYTES // (k + 1)) for k in range(frames)]
    return folder(path, first, suffix, save_all=True, append_images=more)


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_frames(tmp_path, suffix):
    path = animation(tmp_path / "x", suffix)
    with pytest.raises(UsageError, match="holds 4 frames or pages"):
        load("folder", path)
    notes: list[str] = []
    train, test = load("folder", path, frames="all", say=notes.append)
    assert (len(train), len(test)) == (12, 8)  # whole files
    assert notes == ["5 files hold several frames: all of them are read"]
    if suffix in ("tif", "png"):
        assert (test.pixels[:4, 0].numpy() == [BYTES // (k + 1) for k in range(4)]).all()
    assert [len(part) for part in load("folder", path, frames="first")] == [3, 2]
    one = animation(tmp_path / "one", "tif", 10)
    for number in range(1, 5):
        (one / f"{number}.tif").unlink()
    assert [len(part) for part in load("folder", one, frames="all")] == [8, 2]


def test_a_camera_file_of_two_pictures(tmp_path):
    folder(tmp_path, GREY, "jpg", format="MPO", save_all=True, append_images=[GREY.rotate(90)])
    with pytest.raises(UsageError, match="2 frames"):
        load("folder", tmp_path)
    assert len(load("folder", tmp_path, frames="first")[0]) == 3


def test_files_that_are_no_images(tmp_path):
    path = folder(tmp_path / "é ☃", GREY, "PNG")
    for name in (
        "._0.png",
        ".hidden",
        "Thumbs.db",
        "paper.pdf",
        "labels.h5",
        "a.csv",
        "b.txt",
        "c.csv",
        "README",
    ):
        (path / name).write_bytes(b"%PDF-1.4")
    (path / ".cache").mkdir()
    GREY.rotate(90).save(path / ".cache" / "x.png")
    notes: list[str] = []
    assert (pixels_of(path, notes) == BYTES[None]).all()
    (note,) = notes
    assert note.startswith("10 files skipped, hidden or no images: ")
    for words in ("4 hidden", "1 .pdf", "1 .h5", "2 .csv", "1 .txt", "1 (no suffix)"):
        assert words in note
    GREY.save(path / "without", format="PNG")
    assert sum(map(len, load("folder", path))) == 6


def damaged() -> dict[str, bytes]:
    whole = b"\x89PNG\r\n\x1a\n" + struct.pack(
        ">I4sIIBBBBB", 13, b"IHDR", 10**6, 10**6, 8, 0, 0, 0, 0
    )
    bomb = whole + struct.pack(">I", zlib.crc32(whole[12:]))
    huge = tiff(BYTES, format=1)
    return {
        "empty.png": b"",
        "text.jpg": b"not an image",
        "bomb.png": bomb,
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n",
        "cut.tif": huge[:-30],
        "cut2.tif": huge[:40],
        "ppm.ppm": b"P6\n8 x\n255\n",
        "riff.webp": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        "gif.gif": b"GIF89a\xff\xff\xff\xff\xff",
        "bmp.bmp": b"BM" + b"\xff" * 60,
    }


@pytest.mark.parametrize("name", list(damaged()))
def test_damaged_images_are_named(tmp_path, name):
    path = folder(tmp_path / "x", GREY)
    (path / name).write_bytes(damaged()[name])
    with pytest.raises(UsageError, match=rf"{name} is damaged"):
        load("folder", path)


@pytest.mark.parametrize(
    "error",
    [SyntaxError, MemoryError, OverflowError, RecursionError, struct.error, KeyError, zlib.error],
)
def test_whatever_pillow_raises_names_the_file(tmp_path, monkeypatch, error):
    def raises(*args, **options):
        raise error("such a thing")

    path = folder(tmp_path / "x", GREY)
    monkeypatch.setattr(Image.Image, "convert", raises)
    with pytest.raises(UsageError, match=r"0\.png is damaged"):
        load("folder", path)


def test_no_format_starts_another_program():
    assert not {"EPS", "WMF", "PDF", "GRIB", "BUFR", "HDF5", "FITS"} & set(FORMATS)
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)


def test_links_pipes_and_closed_folders(tmp_path):
    path, away = tmp_path / "x", folder(tmp_path / "away", GREY)
    folder(path, GREY, count=3)
    (path / "class").symlink_to(away)
    (away / "loop").symlink_to(path)
    assert sum(map(len, load("folder", path))) == 8
    (path / "gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"gone\.png is not a regular file"):
        load("folder", path)
    (path / "gone.png").unlink()
    os.mkfifo(path / "pipe.png")
    with pytest.raises(UsageError, match=r"pipe\.png is not a regular file"):
        load("folder", path)


def splits(root: Path, **counts: int) -> Path:
    """A folder per split with two class folders in each, and its own shade."""
    for shade, (split, count) in enumerate(counts.items()):
        for number in range(count):
            path = root / split / ("cats", "dogs")[number % 2]
            path.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 50 * shade + number % 2).save(path / f"{number}.png")
    return root


def test_folders_of_splits(tmp_path):
    from torchvision.datasets import ImageFolder

    root = splits(tmp_path / "a", train=30, val=10)
    train, test = load("folder", root)
    assert (train.pixels // 50).unique().tolist() == [0]
    assert (test.pixels // 50).unique().tolist() == [1]
    peer = ImageFolder(str(root / "train"))
    assert train.source.classes == tuple(peer.classes)
    assert train.labels.tolist() == [label for _, label in peer.samples]
    notes: list[str] = []
    root = splits(tmp_path / "b", train=8, val=4, test=6)
    assert list(map(len, load("folder", root, say=notes.append))) == [8, 6]
    assert notes == ["train on train/, test on test/", "left out 4 images in neither"]
    root = splits(tmp_path / "c", Train=8, VALID=4)
    assert list(map(len, load("folder", root))) == [8, 4]
    root = splits(tmp_path / "d", val=10)
    train, test = load("folder", root, say=notes.append)
    assert (len(train), len(test)) == (8, 2)
    assert "val/ is the only split: a fifth of it is held out" in notes
    assert train.source.classes == ("cats", "dogs")
    with pytest.raises(UsageError, match="test and val folders, but no train"):
        load("folder", splits(tmp_path / "e", val=4, test=4))
    train, _ = load("folder", splits(tmp_path / "f", train=4, plane=4, car=4))
    assert train.source.classes == ("car", "plane", "train")  # classes of vehicles


def test_class_folders_as_torchvisions(tmp_path):
    from torchvision.datasets import ImageFolder

    for name in ("b", "a/inner", "é"):
        folder(tmp_path / name, GREY, count=4)
    train, test = load("folder", tmp_path)
    peer = ImageFolder(str(tmp_path))
    assert train.source.classes == tuple(peer.classes)
    owner = dict(peer.samples)
    for name, split, _ in train.source.files:
        assert split in ("train", "test")
        assert str(tmp_path / name) in owner
    expected = [
        owner[str(tmp_path / name)] for name, split, _ in train.source.files if split == "train"
    ]
    assert train.labels.tolist() == expected
    assert sorted([*train.labels.tolist(), *test.labels.tolist()]) == sorted(peer.targets)
    assert train.label_names(1) == [train.source.classes[train.labels[0]]]
    GREY.save(tmp_path / "outside.png")
    assert load("folder", tmp_path)[0].labels is None


def test_sizes(tmp_path):
    from torchvision.transforms.v2.functional import resize

    for number, size in enumerate(((8, 8), (17, 11), (30, 40), (9, 8), (8, 8))):
        RGB.resize(size).save(tmp_path / f"{number}.png")
    with pytest.raises(UsageError, match=r"0\.png is 8 x 8 RGB and .* is 17 x 11 RGB; --resi"):
        load("folder", tmp_path)
    train, test = load("folder", tmp_path, resize=6)
    files = [
        name for split in ("train", "test") for name, of, _ in train.source.files if of == split
    ]
    for image, name in zip(torch.cat([train.pixels, test.pixels]), files, strict=True):
        whole = torch.from_numpy(np.array(Image.open(tmp_path / name))).permute(2, 0, 1)
        assert torch.equal(image, resize(whole, [6, 6], antialias=True))
    GREY.save(tmp_path / "z.png")
    with pytest.raises(UsageError, match=r"6 x 6 RGB and .* is 6 x 6 grey"):
        load("folder", tmp_path, resize=6)


def test_greys_of_a_palette_may_stand_among_colours(tmp_path):
    folder(tmp_path, RGB.quantize(), "gif", count=3)
    GREY.convert("P").save(tmp_path / "grey.gif")
    train, test = load("folder", tmp_path)
    assert train.image_shape == (3, 8, 8)
    every = torch.cat([train.pixels, test.pixels])
    assert any((image.numpy() == BYTES).all() for image in every)


def test_options_that_do_not_fit(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "x", GREY)
    images = ["--data", "folder", "--data-root", "x", "--latent-dim", "1", "--out", "new"]
    for args, words in (
        (["--value-range", "0", "1"], ["--value-range is for images of more than 8 bits"]),
        (["--value-range", "1", "0"], ["the first must be the lower"]),
        (["--value-range", "0", "nan"], ["--value-range"]),
        (["--background", "whitish"], ["whitish is not a colour"]),
        (["--frames", "some"], ["some", "first"]),
        (["--resize", "-1"], ["--resize"]),
        (["--resize", "5000"], ["--resize must be at most 4096"]),
        (["--label", "y"], ["--label is for --data FILE.csv"]),
    ):
        refused(capsys, pca, [*images, *args], *words)
    digits = ["--data", "digits", "--out", "new"]
    refused(capsys, pca, [*digits, "--resize", "4"], "--resize is for --data folder, not for 'dig")
    refused(capsys, pca, ["--data", "mnits"], "did you mean mnist?")
    refused(capsys, pca, ["--data", "x"], "is a directory", "--data folder --data-root x")


def test_a_report_shows_classes_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("nebula", "galaxy"):
        Path("x", name).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(rng.integers(0, 255, (4, 4), np.uint8)).save(f"x/{name}/{number}.png")
    seen = []
    monkeypatch.setattr(
        "experiments.reports.plots.encodings", lambda *args: seen.append(args) or encodings(*args)
    )
    cli(pca.Config, pca.main, ["--data", "folder", "--data-root", "x", "--out", "run"])
    assert seen[0][-1] == ("galaxy", "nebula")
    assert Path("run/figures/encodings.png").stat().st_size > 1000
