"""Published checkpoints as people save them: read, or refused in one line before much is built."""

import argparse
import collections
import itertools
import os
import pickle
import socket
import stat
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.errors import UsageError
from experiments.inference.svi import Pair
from experiments.runs.cli import cli
from experiments.tools import import_nvae
from experiments.training.nvae import reference_checkpoint
from experiments.training.nvae.reference_checkpoint import pair_of, read_checkpoint
from guides import GUIDES
from ppl_models.nvae import NVAE
from ppl_models.nvae.reference import to_reference
from ppl_models.nvae.reference_options import options_of_args
from tests.shared.commands import refused

ARGS = {
    "dataset": "mnist",
    "num_latent_scales": 1,
    "num_groups_per_scale": 2,
    "num_latent_per_group": 2,
    "num_channels_dec": 4,
    "num_channels_enc": 4,
    "num_cell_per_cond_dec": 1,
    "num_cell_per_cond_enc": 1,
    "num_postprocess_blocks": 2,
    "num_preprocess_blocks": 2,
    "num_postprocess_cells": 1,
    "num_preprocess_cells": 1,
    "use_se": True,
    "num_x_bits": 8,
    "res_dist": True,
    "num_nf": 1,
    "ada_groups": False,
    "min_groups_per_scale": 1,
    "arch_instance": "res_mbconv",
}


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    model, guide = options_of_args(ARGS)
    with torch.device("cpu"):
        p = NVAE(**model)
        pair = Pair(p, GUIDES["top_down"](p, **guide)).float()
    return OrderedDict((name, value.clone()) for name, value in to_reference(pair).items())


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def saved(state, args=None, **more) -> Path:
    content = {"epoch": 3, "state_dict": state, "args": argparse.Namespace(**ARGS)}
    torch.save({**content, **({} if args is None else {"args": args}), **more}, "ck.pt")
    return Path("ck.pt")


def renamed(state, prefix):
    return OrderedDict((prefix + name, value) for name, value in state.items())


@pytest.mark.parametrize(
    "kind",
    [
        "as published",
        "a dictionary",
        "of DDP",
        "compiled",
        "compiled and of DDP",
        "numpy scalars",
        "numpy arguments",
        "legacy",
    ],
)
def test_what_people_save_is_read_and_equal(state, kind):
    scalars = {
        "a": np.float64(80.1),
        "b": [np.int32(7), np.bool_(True)],
        "c": np.float16(0.5),
        "d": np.str_("words"),
        "e": np.dtype(">f4").type(2),
    }
    prefix = {
        "of DDP": "module.",
        "compiled": "_orig_mod.",
        "compiled and of DDP": "module._orig_mod.",
    }.get(kind, "")
    args = {
        "a dictionary": dict(ARGS),
        "numpy arguments": argparse.Namespace(
            **{
                name: np.int64(value) if type(value) is int else value
                for name, value in ARGS.items()
            }
        ),
    }.get(kind)
    path = saved(renamed(state, prefix), args, **(scalars if kind == "numpy scalars" else {}))
    if kind == "legacy":
        content = torch.load(path, weights_only=False)
        torch.save(content, path, _use_new_zipfile_serialization=False)
    found = read_checkpoint(path)
    back = to_reference(pair_of(found))
    assert list(back) == list(state)
    assert all(torch.equal(back[name], state[name]) for name in state)
    assert all(type(value) in (bool, int, str) for value in found["args"].values())
    if kind == "numpy scalars":
        plain = {name: found[name] for name in scalars}
        assert plain == {"a": 80.1, "b": [7, True], "c": 0.5, "d": "words", "e": 2.0}
        assert {type(plain["a"]), type(plain["d"]), type(plain["b"][0])} == {float, str, int}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_single(state, dtype):
    half = OrderedDict(
        (name, value.to(dtype) if value.is_floating_point() else value)
        for name, value in state.items()
    )
    pair = pair_of(read_checkpoint(saved(half)))
    back = to_reference(pair)
    assert all(torch.equal(back[name], half[name].to(back[name].dtype)) for name in half)
    assert {p.dtype for p in pair.parameters()} == {torch.float32}


def changed(**args):
    return argparse.Namespace(**{**ARGS, **args})


class Config(dict):
    """As omegaconf's: a class of somebody else's."""


NUMBERS = [name for name in ARGS if type(ARGS[name]) is int]
OF_EVERY_RANGE = ("num_latent_scales", "num_channels_enc", "num_nf", "num_x_bits")
NO_NUMBERS = (2**40, -1, 1.5, "<script>", None, [1])
BAD_ARGS = [
    *itertools.product(OF_EVERY_RANGE, NO_NUMBERS),
    *zip(NUMBERS, itertools.cycle(NO_NUMBERS)),
    ("use_se", "yes"),
    ("dataset", [1]),
    ("dataset", "../../etc/passwd"),
    ("dataset", None),
    ("arch_instance", 3),
    ("arch_instance", "res_bnswish"),
    ("num_latent_scales", float("nan")),
    ("num_nf", 250),
    ("num_groups_per_scale", 50),
    ("num_channels_dec", 8),
    ("num_channels_enc", 2**31),
    ("num_latent_per_group", 3),
    ("num_postprocess_blocks", 9),
]


def test_arguments_that_make_no_sense_are_refused_by_name(state, capsys, monkeypatch):
    built = []
    monkeypatch.setattr(
        reference_checkpoint, "NVAE", lambda **options: built.append(1) or NVAE(**options)
    )
    for name, value in BAD_ARGS:
        refused(capsys, import_nvae, [saved(state, changed(**{name: value})), "--out", "run"])
    assert len(built) <= 12  # of the values in range, whose shapes do not fit
    for args, words in (
        (changed(num_nf=2**40), "num_nf=1099511627776"),
        (None, "args"),
        ([1], "<list>"),
        ({}, "lack dataset, num_latent_scales"),
        ({b"x": 1}, "no text: b'x'"),
        ({**ARGS, "num_groups_per_scale": -2}, "num_groups_per_scale=-2 is no whole number"),
        ({**ARGS, "num_groups_per_scale": 0.5}, "num_groups_per_scale=0.5 is no whole number"),
        ({name: ARGS[name] for name in ARGS if name != "num_nf"}, "lack num_nf"),
        (changed(num_preprocess_blocks=3), "num_preprocess_blocks=3 is not"),
    ):
        path = saved(state, args)
        if args is None:
            torch.save({"state_dict": state, "args": None}, path)
        refused(capsys, import_nvae, [path, "--out", "run"], *([words] if args != [1] else []))
    refused(capsys, import_nvae, [saved(state, Config(a=1)), "--out", "run"], "Config", "was run")
    for epoch in ("<b>", float("nan"), [1], -1, torch.zeros(3)):
        refused(capsys, import_nvae, [saved(state, epoch=epoch), "--out", "run"], "'s epoch=")


def test_epochs_that_a_file_does_not_tell_are_not_told(state, capsys):
    for epoch, words in ((None, " of 2 channels\n"), (3, " of 2 channels, 3 epochs\n")):
        path = saved(state, epoch=epoch)
        cli(import_nvae.Config, import_nvae.main, [str(path), "--out", f"run{epoch}"])
        assert words in capsys.readouterr().out


def test_tensors_that_are_no_weights_are_refused_by_name(state, capsys):
    name = "stem.weight"
    weight = state[name]
    nan = weight.clone()
    nan.view(-1)[5] = float("nan")
    for value, words in (
        (nan, "holds NaN or infinite"),
        (weight / 0, "holds NaN or infinite"),
        (weight.to(torch.complex64), "of complex64"),
        (weight.to(torch.int8), "of int8"),
        (weight > 0, "of bool"),
        (weight.to_sparse(), "sparse_coo"),
        (weight.to("meta"), "on 'meta'"),
        (torch.zeros(1).expand(2**40), "fewer numbers"),
        (torch.zeros(1).expand(weight.shape), "fewer numbers"),
        ("x", "<str>"),
        (3.0, "float"),
        (torch.zeros(7), "shape): stem.weight [7]"),
        (np.float64(1), "float"),
        (None, "None"),
    ):
        said = words.strip("<>")
        refused(capsys, import_nvae, [saved({**state, name: value}), "--out", "run"], name, said)
    for content, words in (
        ([1, 2], "list"),
        (None, "None"),
        ({}, "no dictionary of tensors"),
        ({1: weight}, "no text: 1"),
        ({b"stem": weight}, "no text: b'stem'"),
        ({**renamed(state, "module."), "x": weight}, "missing"),
        ({**state, "stem.more": weight}, "unexpected): stem.more"),
        ({key: state[key] for key in state if key != name}, "missing): stem.weight"),
    ):
        refused(capsys, import_nvae, [saved(content), "--out", "run"], words)


def test_tensors_that_share_memory_are_read(state):
    """As checkpoints of tied weights do."""
    shared = torch.cat([value.flatten() for value in state.values() if value.is_floating_point()])
    views, at = OrderedDict(state), 0
    for name, value in state.items():
        if value.is_floating_point():
            views[name] = shared[at : at + value.numel()].view(value.shape)
            at += value.numel()
    back = to_reference(pair_of(read_checkpoint(saved(views))))
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_what_is_no_file_is_never_opened(capsys, state):
    os.mkfifo("pipe")
    Path("folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for path, words in (
            ("pipe", "is not a file"),
            ("folder", "is not a file"),
            ("socket", "is not a file"),
            ("/dev/null", "is not a file"),
            ("/dev/zero", "is not a file"),
            ("nowhere", "does not exist"),
        ):
            refused(capsys, import_nvae, [path, "--out", "run"], f"{path} ", words)
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)
    os.symlink("nowhere", "dangling")
    with pytest.raises(UsageError, match="dangling does not exist"):
        read_checkpoint(Path("dangling"))
    saved(state)
    os.symlink("ck.pt", "link.pt")
    assert read_checkpoint(Path("link.pt"))["epoch"] == 3


def rewritten(target: str, kind: int, larger: int = 0) -> str:
    """The archive anew, its records compressed or one of them larger."""
    with zipfile.ZipFile("ck.pt") as old, zipfile.ZipFile(target, "w", kind) as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content + bytes(larger if name.endswith("/data/0") else 0))
    return target


def test_archives_that_unpack_to_more_than_their_size_are_refused(capsys, state):
    saved(state)
    bomb = rewritten("bomb.pt", zipfile.ZIP_DEFLATED, larger=2**26)
    assert os.path.getsize(bomb) < 2**23
    refused(capsys, import_nvae, [bomb, "--out", "run"], "bomb.pt declares", "bytes in a file of")
    assert read_checkpoint(Path(rewritten("plain.pt", zipfile.ZIP_STORED)))["epoch"] == 3


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_nothing_else_is_unpickled(capsys, state):
    for value in (
        Bomb(),
        np.array([Bomb()], dtype=object),
        np.random.default_rng(0),
        collections.ChainMap,
        np.datetime64("2020-01-01"),
    ):
        refused(capsys, import_nvae, [saved(state, more=value), "--out", "run"], "ck.pt")
    for protocol in (0, 2, 4):
        Path("bomb.pkl").write_bytes(pickle.dumps(Bomb(), protocol))
        refused(capsys, import_nvae, ["bomb.pkl", "--out", "run"], "bomb.pkl")
    for content in (b"", b"ustar" * 100, b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b"."):
        Path("odd").write_bytes(content)
        refused(capsys, import_nvae, ["odd", "--out", "run"], "odd")
    assert not Path("exploded").exists()
