"""Commands run inside a test: as from a shell, with what they leave or say checked."""

import json
from pathlib import Path

import jsonschema
import pytest

from experiments import compare, ppca
from experiments.runs.cli import cli
from experiments.runs.files import FORMAT
from experiments.tools import bench, evaluate

SCHEMA = json.loads((Path(__file__).parent / "metrics.schema.json").read_text())
SHORT = ["--data", "digits", "--epochs", "2", "--batch-size", "1000"]


def run(module, *args: str) -> dict:
    """Run a command as from a shell; its metrics, checked against the schema."""
    out = args[args.index("--out") + 1]
    cli(module.Config, module.main, list(args))
    metrics = json.loads(Path(out, "metrics.json").read_text())
    jsonschema.validate(metrics, SCHEMA)
    config = json.loads(Path(out, "config.json").read_text())
    assert config["format"] == FORMAT
    assert "torch" in config["versions"]
    page = Path(out, "report.html").read_text()
    assert "<img" in page or module in (evaluate, bench, compare)
    assert "://" not in page  # a picture in base64 has no colon
    return metrics


def without_times(metrics: dict) -> dict:
    metrics = json.loads(json.dumps(metrics))
    del metrics["seconds"], metrics["memory"]
    for row in metrics.get("rows", []):
        del row["seconds_per_epoch"]
    return metrics


def refused(capsys, module, args, *words, code=2):
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    with pytest.raises(SystemExit) as end:
        cli(module.Config, module.main, list(map(str, args)))
    assert end.value.code == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], lines[0]
    assert lines[0].isprintable()
    if code == 2:
        assert set(Path().rglob("*")) == set(before), "something was left behind"
    for path, time in before.items():
        assert path.stat().st_mtime_ns == time or path.is_dir(), f"{path} was overwritten"


def failed(capsys, args: list[str], words: str) -> None:
    """A command that ends with code 1 and one line that holds the words."""
    with pytest.raises(SystemExit) as end:
        cli(ppca.Config, ppca.main, args)
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words in error
    assert "PPL_DEBUG" not in error
