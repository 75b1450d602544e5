"""Damaged images, and folders that hold none. A maker like those of ``fuzz_words``."""

import os
import random
import struct
import zlib
from pathlib import Path

from PIL import Image

from tests.stress.fuzz_files import damage
from tests.stress.fuzz_words import NUL, Case


def images(rng: random.Random, home: Path) -> Case:
    """A folder of images of which one is damaged, or does not go with the others."""
    folder = home / "data"
    folder.mkdir()
    maker = rng.choice(
        [
            broken_image,
            broken_image,
            broken_image,
            unlike,
            unlike,
            no_images,
            odd_entries,
            bomb,
            downloads,
        ]
    )
    if maker in (no_images, downloads):
        return maker(rng, folder)
    mode, side = rng.choice(["L", "L", "RGB", "P", "1", "I;16", "RGBA"]), rng.choice([1, 4, 4, 4])
    for number in range(6):
        picture(rng, mode, (side, side)).save(folder / f"{number}.png")
    case = maker(rng, folder)
    return case._replace(words=[*rng.choice(OF_FOLDERS), "--data-root", "data", "--out", "new"])


OF_FOLDERS = [
    ["pca", "--data", "folder", "--latent-dim", "1"],
    ["pca", "--data", "folder", "--latent-dim", "1"],
    ["ppca", "--data", "folder", "--epochs", "1", "--latent-dim", "1"],
    ["vae", "--data", "folder", "--epochs", "1"],
    [
        "nvae",
        "--preset",
        "digits-tiny",
        "--data",
        "folder",
        "--epochs",
        "1",
        "--evaluate",
        "1",
        "--readjust",
        "1",
    ],
]


def picture(rng: random.Random, mode: str, size: tuple[int, int]) -> Image.Image:
    bands = {"RGB": 3, "RGBA": 4, "I;16": 2}.get(mode, 1)
    return Image.frombytes(mode, size, rng.randbytes(size[0] * size[1] * bands))


def broken_image(rng: random.Random, folder: Path) -> Case:
    ending = rng.choice(["png", "png", "jpg", "bmp", "gif", "tiff", "webp", "ppm", "ico"])
    path = folder / f"{rng.randrange(6)}.png"
    with Image.open(path) as opened:
        image = opened.convert("L")
    path.unlink()
    path = path.with_suffix(f".{ending}")
    image.save(path)
    damage(rng, path)
    return Case([], True)  # what is not under a checksum may still be an image


def unlike(rng: random.Random, folder: Path) -> Case:
    """One image of another size, or of other channels."""
    with Image.open(folder / "0.png") as first:
        first.load()
    side = first.size[0]
    sizes = [(side + 1, side), (side, side + 1), (2 * side, 2 * side), (1, 17)]
    mode = first.mode if first.mode in ("L", "RGB") else "L"
    other = picture(rng, mode, rng.choice(sizes))
    if rng.random() < 0.3:
        other = picture(rng, "RGB" if first.mode in ("L", "1", "I;16") else "L", first.size)
    other.save(folder / f"{rng.choice([0, 3, 5])}.png")
    return Case([], may_pass=first.mode == "P")  # a palette may be of greys


def no_images(rng: random.Random, folder: Path) -> Case:
    """A directory without images, or none at all."""
    if rng.random() < 0.6:
        (folder / rng.choice(["notes.txt", "a.png", "b.jpg", "noending"])).write_text("words")
    if rng.random() < 0.3:
        picture(rng, "L", (4, 4)).save(folder / "only.png")
    root = rng.choice(["data", "data", "data", "data/notes.txt", "nowhere", "n" * 300, NUL])
    return Case([*rng.choice(OF_FOLDERS), "--data-root", root, "--out", "new"])


def odd_entries(rng: random.Random, folder: Path) -> Case:
    """Entries that are no files beside images, which may be passed over; or text by their name."""
    what = rng.choice(["loop", "ring", "pipe", "device", "text", "folder", "unreadable"])
    path = folder / "odd.png"
    if what == "loop":
        path.symlink_to("odd.png")
    elif what == "ring":
        (folder / "below").symlink_to(folder, target_is_directory=True)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "folder":
        path.mkdir()
    else:
        path.write_text(rng.choice(["words", "", "\x89PNG\r\n\x1a\n"]))
        path.chmod(0o000 if what == "unreadable" else 0o644)
    return Case([], what not in ("text", "unreadable"))


def bomb(rng: random.Random, folder: Path) -> Case:
    """A small PNG file that says it is very large."""
    header = struct.pack(
        ">2I5B",
        *rng.choice(
            [
                (50_000, 50_000),
                (12_000, 12_000),
                (2**31 - 1, 2**31 - 1),
                (2**31 - 1, 1),
                (0, 0),
                (0, 4),
            ]
        ),
        8,
        0,
        0,
        0,
        0,
    )
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts
    ]
    (folder / f"{rng.choice([0, 3])}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return Case([])


def downloads(rng: random.Random, folder: Path) -> Case:
    """Damaged files of the data sets that torchvision reads."""
    name, file = rng.choice(
        [
            ("cifar10", "cifar-10-batches-py/data_batch_1"),
            ("cifar10", "cifar-10-python.tar.gz"),
            ("omniglot", "omniglot-py/images_background.zip"),
            ("omniglot", "omniglot-py/images_background/a"),
            ("celeba64", "celeba/img_align_celeba.zip"),
            ("celeba64", "celeba/list_eval_partition.txt"),
        ]
    )
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rng.randbytes(rng.choice([0, 10, 1000])))
    return Case(["pca", "--data", name, "--data-root", "data", "--out", "new"])
