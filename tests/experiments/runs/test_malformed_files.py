"""Whatever a saved file holds: one line that names it, exit code 2, and nothing is changed."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from experiments import ppca
from experiments.runs.checkpoint import MANIFEST, WEIGHTS, checkpoints, manifest
from experiments.tools import evaluate, sweep
from tests.shared.commands import refused, run
from tests.shared.runs import RUNS

ARGS = [*RUNS["ppca"][1], "--checkpoint-every", "1"]
RESUME = [*ARGS, "--epochs", "4", "--out", "a", "--resume"]
DEEP = b'{"a":' * 100_000
JUNK = [None, True, 10**30, "x", [[]], {"x": 1}]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    torch.set_default_dtype(torch.float32)
    out = tmp_path_factory.mktemp("trained") / "a"
    run(ppca, *ARGS, "--keep", "1", "--out", str(out))
    return out


@pytest.fixture(autouse=True)
def _here(trained, monkeypatch, tmp_path, without_pictures):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "a")


def signed(name: str, content: bytes) -> None:
    """Replace a file of the checkpoint, with a manifest that knows it."""
    (folder,) = checkpoints(Path("a"))
    (folder / name).write_bytes(content)
    files = {file: (folder / file).read_bytes() for file in (WEIGHTS, "state.pt")}
    (folder / MANIFEST).write_bytes(manifest(files))


def weights() -> dict[str, torch.Tensor]:
    return load((checkpoints(Path("a"))[0] / WEIGHTS).read_bytes())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x * float("nan"), "weights that are not finite"),
        (lambda x: x / 0, "weights that are not finite"),
        (lambda x: x.double(), "torch.float64, not torch.float32"),
        (lambda x: x.long(), "torch.int64, not torch.float32"),
        (lambda x: x.reshape(-1, 1, 1), "does not fit this run"),
    ],
)
def test_weights(change: Callable, words: str, capsys):
    signed(WEIGHTS, save({name: change(value) for name, value in weights().items()}))
    refused(capsys, evaluate, ["a", "--out", "e"], WEIGHTS, words)
    refused(capsys, ppca, RESUME, WEIGHTS, words)


def test_weights_that_are_others(capsys):
    for content in (
        save(weights() | {"more": torch.zeros(1)}),
        save({}),
        b"",
        DEEP,
        (2**63).to_bytes(8, "little") + b"{}",
    ):
        signed(WEIGHTS, content)
        refused(capsys, ppca, RESUME, WEIGHTS)


@pytest.mark.parametrize(
    "part", ["svi", "random", "position", "rollbacks", "guard", "losses", "records", "data"]
)
def test_states(part, capsys):
    path = checkpoints(Path("a"))[0] / "state.pt"
    whole = path.read_bytes()
    values: list[Any] = [..., None, {"x": 1}]
    values += ["[" * 100_000, '[{"epoch": 1}]'] if part == "records" else []
    values += [(10**6,), ("a",) * 9] if part == "position" else []
    for value in values if part != "rollbacks" else [...]:
        state = torch.load(io.BytesIO(whole), weights_only=True)
        if value is ...:
            del state[part]
        else:
            state[part] = value
        buffer = io.BytesIO()
        torch.save(state, buffer)
        signed("state.pt", buffer.getvalue())
        refused(
            capsys,
            ppca,
            RESUME,
            "is not what" if part == "data" and value is not ... else "state.pt cannot be read",
        )


def test_states_that_are_none(capsys):
    for state in ([1], {}, "x", torch.zeros(1)):
        buffer = io.BytesIO()
        torch.save(state, buffer)
        signed("state.pt", buffer.getvalue())
        refused(capsys, ppca, RESUME, "state.pt cannot be read")


def test_manifests(capsys):
    (folder,) = checkpoints(Path("a"))
    lists = [[WEIGHTS, "state.pt"], {WEIGHTS: 5}, {WEIGHTS: {}}, {WEIGHTS: {"size": 1}}, None, 3]
    contents = [
        b"",
        b"null",
        b"NaN",
        DEEP,
        b"\xff" * 9,
        b'{"sha256": 1}',
        b"[]",
        b'{"format":' + b"9" * 5000 + b"}",
    ]
    for files in lists:
        content: dict[str, Any] = {"format": 1, "files": files}
        content["sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        contents.append(json.dumps(content).encode())
    for bad in contents:
        (folder / MANIFEST).write_bytes(bad)
        refused(capsys, evaluate, ["a", "--out", "e"], "")
        refused(capsys, ppca, RESUME, "")


def test_configurations(capsys):
    content = json.loads(Path("a/config.json").read_text())
    texts = ["", "[" * 100_000, "NaN", "[]", "3", '{"a": ' + "9" * 6000 + "}"]
    texts += [
        json.dumps({**content, name: value}) for name in ("options", "format") for value in JUNK
    ]
    own = [json.dumps({**content, "pair": value}) for value in JUNK]
    of_a_run = [json.dumps({**content, name: 3}) for name in ("command", "history", "versions")]
    for text in texts + own + of_a_run:
        Path("a/config.json").write_text(text)
        if text not in of_a_run:
            refused(capsys, evaluate, ["a", "--out", "e"], "")
        if text not in own:
            refused(capsys, ppca, RESUME, "")
    Path("a/config.json").unlink()
    Path("a/config.json").mkdir()
    refused(capsys, ppca, RESUME, "config.json")


def test_a_log_with_a_torn_end_is_mended(capsys):
    whole = Path("a/metrics.jsonl").read_bytes()
    for content in (whole + b"\xff\xfe\0garbage", whole[:-9], b"\xff" * 100, b"{}\n" * 3, b""):
        Path("a/metrics.jsonl").write_bytes(content)
        for name in ("metrics.json", "report.html"):
            Path("a", name).unlink()
        run(ppca, *ARGS, "--out", "a", "--resume")
        lines = Path("a/metrics.jsonl").read_bytes().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
        assert len(lines) == len(whole.splitlines())


def test_sweeps(capsys):
    Path("s").mkdir()
    shutil.copytree("a", "s/seed=0")
    args = ["ppca", "--grid", "seed=0", "--out", "s"]
    for text in (
        "",
        "[]",
        "3",
        "[" * 100_000,
        '{"command": 3}',
        '{"command": {}}',
    ):
        Path("s/sweep.json").write_text(text)
        refused(capsys, sweep, args, "s")
    Path("s/sweep.json").write_text('{"command": "ppca"}')
    for text in ("", '{"options": 3}', '{"options": [1]}', '{"asked": 1}', "[" * 100_000):
        Path("s/seed=0/config.json").write_text(text)
        refused(capsys, sweep, args, "config.json")
