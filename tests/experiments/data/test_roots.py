"""Where data sets lie, and what a failed download leaves there."""

from pathlib import Path

import pytest

from experiments.data import load
from experiments.data.downloads import fetch
from experiments.errors import UsageError
from tests.shared.idx import idx_bytes

pytestmark = pytest.mark.usefixtures("in_a_folder")


def test_a_tilde_in_the_environment(monkeypatch):
    import torchvision.datasets

    def offline(*_, **__):
        raise RuntimeError("offline")

    monkeypatch.setattr(torchvision.datasets, "KMNIST", offline)
    monkeypatch.setenv("HOME", str(Path("home").absolute()))
    monkeypatch.setenv("PPL_DATA", "~/data")
    raw = Path("home/data/KMNIST/raw")
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes((4, 2, 2)))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes((4,)))
    assert [len(part) for part in load("kmnist")] == [4, 4]


def test_a_failed_download_leaves_what_others_wrote_meanwhile(monkeypatch, tmp_path):
    """With --data-root . a run may train in the same folder."""
    import torchvision.datasets

    def half(root, **options):
        for name in ("MNIST/raw/train.gz", "runs/other/checkpoint/00002/weights.safetensors"):
            path = Path(root, name)
            path.parent.mkdir(parents=True)
            path.write_text("half" if "MNIST" in name else "of another process")
        raise RuntimeError("connection reset")

    monkeypatch.setattr(torchvision.datasets, "MNIST", half)
    with pytest.raises(UsageError, match="connection reset"):
        fetch("MNIST", tmp_path)
    assert not (tmp_path / "MNIST").exists()
    assert (tmp_path / "runs/other/checkpoint/00002/weights.safetensors").exists()
