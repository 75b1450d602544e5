"""A checkpoint of the published NVAE in, the same out; nothing in it is run."""

import argparse
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.runs.cli import cli
from experiments.tools import export_nvae, import_nvae
from experiments.training.nvae.reference_checkpoint import pair_of, read_checkpoint
from ppl_models.nvae.distributions import SoftNormal
from tests.ppl_models.nvae.test_nvae_parity import Measured, parameters_of
from tests.shared.commands import refused
from tests.shared.golden import GOLDEN, Fixture

pytestmark = pytest.mark.skipif(GOLDEN is None, reason="the published checkpoint is not here")
NAME = "mnist_1s2g_noresdist"


@pytest.fixture
def file(monkeypatch, tmp_path):
    path = (GOLDEN / f"{NAME}_checkpoint.pt").absolute()
    home = GOLDEN.absolute()
    monkeypatch.setattr("tests.shared.golden.GOLDEN", home)
    monkeypatch.chdir(tmp_path)
    return path


def test_what_the_checkpoint_computes(file, monkeypatch):
    noise: list[torch.Tensor] = []
    monkeypatch.setattr(
        SoftNormal, "rsample", lambda self, shape=(): self.loc + self.scale * noise.pop(0)
    )
    pair = pair_of(read_checkpoint(file)).double().eval()
    fixture = Fixture(NAME)
    found = Measured(pair, fixture, noise, fixture.inputs("eps"))
    expected = dict(np.load(file.with_name(f"{NAME}_checkpoint_expected.npz")))
    elbo = -found.distortion - found.kl.sum(1)
    for key, value in (
        ("logits", parameters_of(found.likelihood)),
        ("kl_all", found.kl),
        ("elbo", elbo),
        ("log_q", found.log_q.sum(1)),
        ("log_p", found.log_p.sum(1)),
        ("recon_loss", found.distortion),
    ):
        reference = torch.from_numpy(expected[key])
        assert (value - reference).abs().max() < 1e-9 * reference.abs().max(), key


def test_an_exported_file_is_the_imported_one(file):
    cli(import_nvae.Config, import_nvae.main, [str(file), "--out", "run"])
    cli(export_nvae.Config, export_nvae.main, ["run", "--file", "again.pt"])
    first, second = (read_checkpoint(path) for path in (file, Path("again.pt")))
    assert list(first["state_dict"]) == list(second["state_dict"])
    for key, tensor in first["state_dict"].items():
        assert torch.equal(tensor, second["state_dict"][key]), key
        assert tensor.dtype == second["state_dict"][key].dtype
    assert set(first) == set(second)
    for name in set(first) - {"state_dict", "optimizer"}:
        assert first[name] == second[name], name
    moments = [saved["optimizer"]["state"] for saved in (first, second)]
    assert all(torch.equal(moments[0][i]["exp_avg"], moments[1][i]["exp_avg"]) for i in moments[0])


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_bad_checkpoints(file, capsys):
    whole = torch.load(file, weights_only=False)

    def saved(name, **changes):
        torch.save({**whole, **changes}, name)
        return name

    def refuse(name, *words):
        refused(capsys, import_nvae, [name, "--out", "run"], *words)
        assert not Path("run").exists()

    refuse("nowhere.pt", "nowhere.pt does not exist")
    Path("half.pt").write_bytes(file.read_bytes()[:5000])
    refuse("half.pt", "half.pt")
    Path("text.pt").write_text("hello")
    refuse("text.pt", "text.pt")
    refuse(saved("bomb.pt", epoch=Bomb()), "no code in it was run")
    assert not Path("exploded").exists()
    torch.save({"epoch": 1}, "other.pt")
    refuse("other.pt", "is no NVAE checkpoint")
    state = dict(whole["state_dict"])
    del state["stem.bias"]
    refuse(saved("missing.pt", state_dict=state), "missing", "stem.bias")
    state = {**whole["state_dict"], "stem.extra": torch.zeros(1)}
    refuse(saved("more.pt", state_dict=state), "unexpected", "stem.extra")
    state = {**whole["state_dict"], "stem.bias": torch.zeros(7)}
    refuse(saved("shape.pt", state_dict=state), "shape", "stem.bias [7]")
    args = argparse.Namespace(**{**vars(whole["args"]), "dataset": "cats"})
    refuse(saved("data.pt", args=args), "'cats' is unknown")
