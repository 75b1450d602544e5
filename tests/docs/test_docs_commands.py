"""Commands and code of the README and of the first page are run, and what they print compared."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import torch

from experiments.options.commands import COMMANDS, module_of
from experiments.options.common import check
from experiments.options.parsing import parse
from experiments.runs.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/start.md")
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```\n+(?:^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
LINE = re.compile(
    r"(?:^ *|`|\$ )(?:ppl|python -m experiments)[. ]([a-z][\w-]*)((?:(?!   )[^`#\n])*)", re.M
)
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


def sessions(page: str) -> list[tuple[list[str], list[str]]]:
    """The words of every command of a page, and the lines that it shows of the output."""
    found: list[tuple[list[str], list[str]]] = []
    for block in CONSOLE.findall((ROOT / page).read_text()):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((shlex.split(line[2:], comments=True), []))
            else:
                found[-1][1].append(line)
    return found


def same(shown: str, printed: str) -> bool:
    """Whether two words agree; numbers may differ in what another machine rounds differently."""
    a, b = shown.strip(",.:;"), printed.strip(",.:;")
    if NUMBER.fullmatch(a) and NUMBER.fullmatch(b):
        return float(b) == pytest.approx(float(a), rel=0.02, abs=0.02)
    return a == b


def appears(line: str, output: list[str]) -> bool:
    """Whether the words of a line follow each other somewhere; a line may end in ``...``."""
    words = line.removesuffix("...").split()
    return any(
        all(map(same, words, output[start:])) for start in range(len(output) - len(words) + 1)
    )


def test_words_that_differ_are_found():
    output = ["guide", "value", "mean_field", "16.82", "±", "0.03,", "best."]
    assert appears("mean_field 16.83 ± 0.03 ...", output)
    assert not appears("mean_field 17.9 ± 0.03", output)
    assert not appears("full_rank 16.82", output)
    assert not appears("best. more", output)


@pytest.mark.usefixtures("without_pictures")
def test_what_the_commands_of_the_pages_print(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shown: dict[tuple[str, ...], list[str]] = {}  # pages show the same commands: each runs once
    for page in PAGES:
        assert len(sessions(page)) >= 3
        for words, lines in sessions(page):
            assert lines
            shown.setdefault(tuple(words), []).extend(lines)
    for (program, command, *args), lines in shown.items():
        torch.set_default_dtype(torch.float32)
        assert program == "ppl"
        module = importlib.import_module(module_of(command))
        capsys.readouterr()
        cli(module.Config, module.main, args)
        output = capsys.readouterr().out.split()
        missing = [line for line in lines if line != "..." and not appears(line, output)]
        assert not missing, f"{command} prints\n{' '.join(output)}"


def test_what_the_code_of_the_readme_prints(capsys):
    torch.set_default_dtype(torch.float32)
    blocks = PYTHON.findall((ROOT / "README.md").read_text())
    assert len(blocks) == 1
    for code, shown in blocks:
        exec(compile(code, "README.md", "exec"), {})
        assert shown
        assert appears(shown, capsys.readouterr().out.split())


@pytest.mark.parametrize("page", [*PAGES, "docs/commands.md", "docs/index.md"])
def test_commands_and_targets_that_a_page_names_exist(page):
    text = (ROOT / page).read_text()
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:^\s*|`|\$ )(?:ppl|python -m experiments) ([a-z][\w-]*)", text, re.M)
    made = re.findall(r"(?:^\s*|`)make ([\w-]+)", text, re.MULTILINE)
    assert named
    assert not [name for name in named if name not in COMMANDS]
    assert not [name for name in made if name not in targets]


def refused(text: str) -> list[str]:
    """Command lines that their commands do not accept; those with placeholders are left out."""
    found = []
    for name, words in LINE.findall(text):
        args = shlex.split(words)
        if any(re.search(r"[a-z]\.[a-z_]+:[A-Z]|COMMAND|GUIDE", word) for word in args):
            continue
        module = importlib.import_module(module_of(name.replace("_", "-")))
        try:
            check(parse(module.Config, module.main, args))
        except SystemExit as end:
            if end.code:
                found.append(f"{name}{words}")
        except Exception as error:
            found.append(f"{name}{words}: {error}")
    return found


def test_every_command_line_of_a_page_is_accepted(capsys):
    pages = (*PAGES, "docs/index.md", "docs/commands.md", "docs/pictures.md", "docs/nvae.md")
    texts = {page: (ROOT / page).read_text() for page in pages}
    assert refused("    ppl vae --latent-dims 3\n")
    assert not refused("    ppl vae --latent-dim 3\n")
    assert not {page: lines for page, text in texts.items() if (lines := refused(text))}


def test_every_help_has_three_examples_that_are_accepted(capsys):
    bad: dict[str, object] = {}
    for name in COMMANDS:
        text = importlib.import_module(module_of(name)).__doc__ or ""
        if len(LINE.findall(text)) < 3 and name not in ("import-nvae", "export-nvae"):
            bad[name] = "fewer than three examples"
        elif lines := refused(text):
            bad[name] = lines
    assert not bad


@pytest.mark.parametrize("page", [*PAGES, "docs/index.md"])
def test_sentences_are_short(page):
    text = re.sub(
        r"```.*?```|^\|.*?$|\A---.*?^---$", "", (ROOT / page).read_text(), flags=re.M | re.S
    )
    text = re.sub(r"\]\([^)]*\)|[`*#!\[]", "", text)
    sentences = re.split(r"(?<=[.:!?])\s|\n\n", text)
    assert not [sentence for sentence in sentences if len(sentence.split()) > 30]
    assert page != "README.md" or (ROOT / page).read_text().count("\n") < 150
