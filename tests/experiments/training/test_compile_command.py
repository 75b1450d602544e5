"""Whether steps are compiled is a rule on the configuration, said aloud, and kept with the run."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments import train, vae
from experiments.inference.compiled import CompileWarning
from experiments.inference.compiled import gradients as compiled
from experiments.runs.checkpoint import latest
from experiments.runs.cli import cli
from experiments.training import compiling

SHORT = ["--data", "digits", "--rows", "100", "--batch-size", "50", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch, without_pictures, as_traced):
    """Graphs run as they were traced, without a compiler's minute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PPL_COMPILE", raising=False)
    torch.set_default_dtype(torch.float32)


def run(*args: str) -> dict:
    cli(vae.Config, vae.main, [*SHORT, *args])
    return json.loads(Path(args[-1], "config.json").read_text())


def test_short_runs_are_eager_and_long_ones_compiled(capsys, monkeypatch):
    assert run("--epochs", "2", "--out", "a")["compiled"] is False
    assert "steps run eagerly: the run takes 4 steps, fewer than 5000" in capsys.readouterr().out
    monkeypatch.setattr(compiling, "LEAST_STEPS", 4)
    assert run("--epochs", "2", "--out", "b")["compiled"] is True
    said = capsys.readouterr().out
    assert "steps are compiled: the run takes 4 steps, at least 4" in said
    assert "s of compiling, once" in said
    assert json.loads(Path("b/metrics.json").read_text())["seconds"]["compile"] > 0
    assert run("--epochs", "2", "--no-compile", "--out", "c")["compiled"] is False


def test_rows_of_a_per_datum_guide_are_not_compiled_by_rule(capsys, monkeypatch):
    monkeypatch.setattr(compiling, "LEAST_STEPS", 1)
    config = run(
        "--guide", "mean_field", "--guide.local-steps", "2", "--epochs", "1", "--out", "a"
    )
    assert config["compiled"] is False
    assert "updated sparsely" in capsys.readouterr().out


def test_a_compiled_run_goes_on_as_it_began(monkeypatch):
    run("--epochs", "4", "--schedule", "constant", "--compile", "--out", "whole")
    run("--epochs", "2", "--schedule", "constant", "--compile", "--out", "parts")
    config = run(
        "--epochs", "4", "--schedule", "constant", "--compile", "--resume", "--out", "parts"
    )
    assert config["compiled"] is True
    weights = [
        load_file(latest(Path(name)) / "weights.safetensors") for name in ("whole", "parts")
    ]
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_a_run_that_was_compiled_by_rule_stays_so(capsys, monkeypatch):
    monkeypatch.setattr(compiling, "LEAST_STEPS", 4)
    run("--epochs", "2", "--schedule", "constant", "--out", "a")
    monkeypatch.setattr(compiling, "LEAST_STEPS", 1000)
    config = run("--epochs", "3", "--schedule", "constant", "--resume", "--out", "a")
    assert config["compiled"] is True


def test_without_a_compiler_one_line_says_so(monkeypatch):
    monkeypatch.setattr(compiled, "can_compile", lambda: False)
    with pytest.warns(
        CompileWarning, match=r"runs eagerly: no C\+\+ compiler is installed"
    ) as all_:
        run("--epochs", "1", "--compile", "--out", "a")
    assert len(all_) == 1
    assert json.loads(Path("a/metrics.json").read_text())["test"]["elbo"]


@pytest.mark.parametrize("asked", ["0", "1"])
def test_the_environment_decides_where_nobody_asked(monkeypatch, capsys, asked):
    monkeypatch.setenv("PPL_COMPILE", asked)
    assert run("--epochs", "1", "--out", "a")["compiled"] is (asked == "1")
    assert f"steps: PPL_COMPILE={asked}" in capsys.readouterr().out
    rows = ("--guide", "mean_field", "--guide.local-steps", "2", "--epochs", "1", "--out", "rows")
    assert run(*rows)["compiled"] is False  # and no warning: nobody asked for this pair


def test_the_environment_says_0_or_1(monkeypatch, capsys):
    monkeypatch.setenv("PPL_COMPILE", "yes")
    with pytest.raises(SystemExit) as end:
        run("--epochs", "1", "--out", "a")
    assert end.value.code == 2
    assert "PPL_COMPILE is 'yes': use 0 or 1" in capsys.readouterr().err
    assert not Path("a").exists()


def test_rounded_products_are_for_float32(capsys):
    with pytest.raises(SystemExit) as end:
        run("--products", "bfloat16", "--dtype", "float64", "--out", "a")
    assert end.value.code == 2
    assert "leave out --dtype float64" in capsys.readouterr().err
    assert not Path("a").exists()
    cli(
        train.Config, train.main, [*SHORT, "--products", "bfloat16", "--epochs", "1", "--out", "b"]
    )
    assert Path("b/metrics.json").exists()
