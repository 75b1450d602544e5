"""Damaged files of saved runs, and IDX files. Makers like those of ``fuzz_words``."""

import json
import os
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from experiments.runs.checkpoint import latest
from tests.shared.idx import idx_bytes
from tests.stress.fuzz_words import SMALL, STOCK, Case, words_of

JUNK = [
    None,
    True,
    -1,
    0,
    3,
    1.5,
    1e308,
    10**30,
    float("nan"),
    "",
    "x",
    "\udcff",
    "a\nb",
    [],
    {},
    [[]],
    [1, "x"],
    {"x": {"y": []}},
    "runs/other",
    "../..",
    "cpu",
    "exact",
    "mean_field",
    "digits",
]
READERS = {
    "ppca": [*STOCK["ppca"], "--epochs", "2", "--resume", "--out", "runs/ppca"],
    "vae": [*STOCK["vae"], "--epochs", "2", "--resume", "--out", "runs/vae"],
    "runs": ["compare", "--runs", "runs/ppca", "runs/other", "--out", "new"],
    "of": [
        "compare",
        *SMALL,
        "--particles",
        "2",
        "--guides",
        "amortized",
        "--of",
        "runs/vae",
        "--out",
        "new",
    ],
}
TABLES = ("metrics.json", "per_image.safetensors", "config.json")


def saved_run(rng: random.Random, home: Path) -> Case:
    """A finished run of which one file is damaged, and a command that reads it."""
    of_a_run = (
        "evaluate",
        "sample",
        "reconstruct",
        "refit",
        "gaps",
        "calibrate",
        "predictive",
        "gradients",
        "export-nvae",
        "import-nvae",
    )
    reader = rng.choice([*of_a_run, *of_a_run[:4], *READERS, *READERS])
    words = READERS.get(reader) or words_of(reader)
    run = home / next(word for word in reversed(words) if word.startswith("runs/"))
    if reader == "import-nvae":
        damaged = run
    elif reader == "runs":
        damaged = run / rng.choice(TABLES)
    else:
        kept = f"checkpoint/{latest(run).name}"
        files = ["config.json"] * 8 + [f"{kept}/weights.safetensors", f"{kept}/manifest.json"]
        files += ["metrics.json"] if reader == "evaluate" else []
        resumed = ["metrics.jsonl", f"{kept}/state.pt"] * 2
        damaged = run / rng.choice(files + (resumed if "--resume" in words else []))
    if damaged.suffix == ".json" and rng.random() < 0.7:
        tree = json.loads(damaged.read_text())
        part = rng.choice(["pair", "pair", "options", "protocol", "test", "of"])
        if part in tree and rng.random() < 0.8:  # what commands read
            tree[part] = changed(rng, tree[part])
        else:
            tree = changed(rng, tree)
        damaged.write_text(json.dumps(tree))
    else:
        damage(rng, damaged)
    return Case(words, True)


def changed(rng: random.Random, tree: Any) -> Any:
    """A tree of JSON with a branch or two removed, renamed or of another type."""
    if rng.random() < 0.05:
        return rng.choice(JUNK)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        branches = list(nodes(tree))
        if not branches:
            return tree
        parent, key = rng.choice(branches)
        what = rng.random()
        if what < 0.3:
            del parent[key]
        elif what < 0.4 and isinstance(parent, dict):
            parent[f"{key}x"] = parent.pop(key)
        else:
            parent[key] = rng.choice(JUNK)
    return tree


def nodes(tree: Any) -> list[tuple[Any, Any]]:
    """Every branch as its parent and its key; those near the root are there more than once."""
    keys = (
        list(tree)
        if isinstance(tree, dict)
        else list(range(len(tree)))
        if isinstance(tree, list)
        else []
    )
    here = [(tree, key) for key in keys]
    return here + [found for key in keys for found in [*nodes(tree[key]), *here[:1]]]


def damage(rng: random.Random, path: Path) -> None:
    """Change the bytes of a file, or take it away."""
    content = bytearray(path.read_bytes())
    what = rng.choice(
        ["flip", "flip", "cut", "cut", "grow", "empty", "other", "deep", "gone", "folder"]
    )
    if what == "flip":
        for _ in range(rng.choice([1, 1, 10, 100])):
            position = rng.randrange(min(len(content), rng.choice([64, 10**9])))
            content[position] ^= 1 << rng.randrange(8)
    elif what == "cut":
        del content[rng.randrange(len(content)) :]
    elif what == "grow":
        content += rng.randbytes(rng.choice([1, 8, 1000]))
    else:
        content = bytearray({"empty": b"", "deep": b"[" * 100_000}.get(what, rng.randbytes(200)))
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what != "gone":
        path.write_bytes(content)


NAMES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}


OF_IDX = [["pca", "--latent-dim", "1"], ["ppca", "--epochs", "1"], ["vae", "--epochs", "1"]]
OTHERS_OF_IDX = [
    ["compare", "--epochs", "1", "--guides", "exact"],
    ["bayesian-ppca", "--steps", "1"],
    ["reproduce", "lab", "--epochs", "1"],
    ["bench", "lab-vae"],
]


def idx_files(rng: random.Random, home: Path) -> Case:
    """Small IDX files in torchvision's layout, one of which is not as it should be."""
    name = rng.choice(["mnist", *["fashion_mnist", "kmnist"] * 3])
    raw = home / "data" / NAMES[name] / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes((12, 4, 4), rng.randbytes(192)))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes((12,), bytes(range(12))))
    if rng.random() < 0.05:
        return lonely(rng, name, raw)
    what = "images-idx3" if rng.random() < 0.7 else "labels-idx1"
    broken = raw / f"{rng.choice(['train', 't10k'])}-{what}-ubyte"
    rng.choice(
        [misread_header, misread_header, other_numbers, other_numbers, packed, damaged_idx]
    )(rng, broken)
    words = rng.choice(OF_IDX + OTHERS_OF_IDX)
    return Case([*words, "--data", name, "--data-root", "data", "--out", "new"])


def lonely(rng: random.Random, name: str, raw: Path) -> Case:
    """A split of a single image: read as it is, and not always enough."""
    split = rng.choice(["train", "t10k"])
    (raw / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes((1, 4, 4), rng.randbytes(16)))
    (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes((1,), b"\7"))
    return Case([*rng.choice(OF_IDX), "--data", name, "--data-root", "data", "--out", "new"], True)


def misread_header(rng: random.Random, path: Path) -> None:
    """A header that says something else than what follows."""
    shape = (12, 4, 4) if "images" in path.name else (12,)
    content = path.read_bytes()[4 + 4 * len(shape) :]
    large = [0, 1, 11, 13, 2**16, 2**31, 2**32 - 1]
    other = tuple(rng.choice([side, *large]) for side in shape)
    while np.prod(other, dtype=object) == np.prod(shape):
        other = tuple(rng.choice(large) for _ in shape)
    whole = rng.choice(
        [
            idx_bytes(other, content),
            idx_bytes(other, b""),
            idx_bytes(shape, content[:-1]),
            idx_bytes(shape, content + b"\0"),
            idx_bytes(shape, content, kind=rng.choice([9, 11, 13, 14, 0])),
            idx_bytes(shape, content, first=rng.randrange(1, 256)),
            idx_bytes((*shape, 1), content),
            idx_bytes(shape[1:], content),
            idx_bytes((2**31, 2**31, 4)[: len(shape)], b""),
        ]
    )
    path.write_bytes(whole)


def other_numbers(rng: random.Random, path: Path) -> None:
    """A file that is right by itself, and does not go with the others."""
    images = [
        (0, 4, 4),
        (12, 0, 0),
        (12, 0, 4),
        (11, 4, 4),
        (13, 4, 4),
        (12, 5, 4),
        (12, 2, 8),
        (1, 4, 4),
    ]
    labels = [(0,), (1,), (11,), (13,), (100,)]
    shape = rng.choice(images if "images" in path.name else labels)
    path.write_bytes(idx_bytes(shape, rng.randbytes(int(np.prod(shape)))))


def packed(rng: random.Random, path: Path) -> None:
    """Only a packed file, and that one damaged."""
    content = bytearray(zlib.compress(path.read_bytes(), wbits=31))
    content[rng.randrange(len(content))] ^= 255
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(content[: rng.choice([0, 5, len(content)])])


def damaged_idx(rng: random.Random, path: Path) -> None:
    """Anything else; what is as long as before differs in its header."""
    content = bytearray(path.read_bytes())
    choice = rng.choice(["cut", "text", "loop", "folder", "sparse", "header"])
    path.unlink()
    if choice == "loop":
        path.symlink_to(path.name)
    elif choice == "folder":
        path.mkdir()
    elif choice == "sparse":
        path.write_bytes(content)
        os.truncate(path, 2**40)
    else:
        content[rng.randrange(4)] ^= 1 << rng.randrange(8)
        cut = content[: rng.randrange(len(content))]
        path.write_bytes({"cut": cut, "text": b"not a number", "header": content}[choice])
