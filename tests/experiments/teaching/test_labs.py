"""The labs run, as teachers and as students get them, with data and without."""

import json
import re
import zipfile
from dataclasses import replace

import pyro
import pytest
import torch

from experiments.errors import TrainingError, UsageError
from experiments.runs.cli import cli
from experiments.teaching import check
from experiments.teaching.lab import load_shipped, open_lab
from experiments.teaching.notebooks import versions
from experiments.teaching.notebooks.myst import code_of, plain
from experiments.teaching.notebooks.sources import find_labs
from experiments.teaching.notebooks.versions import read_lab, stubbed, student, worked_on
from experiments.tools import labs

SOURCES = find_labs()
LABS = [path for path in SOURCES if path.stem.startswith("lab")]
WORDS = re.compile(r"# HINT: (.*)")


pytestmark = pytest.mark.usefixtures("in_a_notebook")


def run(cells):
    """Execute cells as plain Python; what they leave."""
    names = {"__name__": "__main__"}
    with pyro.get_param_store().scope():
        for number, code in enumerate(cells):
            exec(compile(code, f"cell {number}", "exec"), names)
    return names


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_a_lab_runs_on_digits(path, capsys):
    names = run(code_of(read_lab(path)))
    assert names["lab"].name == "digits"
    calls = sum(cell.source.count("check.") for cell in read_lab(path).cells)
    assert capsys.readouterr().out.count(": right (") == calls >= 4


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_students_get_hints_and_no_answers(path):
    source, notebook = read_lab(path), student(read_lab(path), path.name)
    text = json.dumps(notebook)
    for word in ("SOLUTION", "HINT", "<details>", "teacher"):
        assert word not in text
    tasks = [cell.source for cell in source.cells if "BEGIN SOLUTION" in cell.source]
    hints = [hint for cell in tasks for hint in WORDS.findall(cell)]
    assert len(tasks) >= 2
    for hint in hints:
        assert any(f"Your turn. {hint}" in cell.source for cell in notebook.cells)
    empty = [cell for cell in notebook.cells if cell.source.startswith("*Your answer:*")]
    assert len(empty) == sum("answer" in c.metadata["tags"] for c in source.cells)
    cells = code_of(notebook)
    for body in re.findall(r"# BEGIN SOLUTION\n(.*?)# END", "\n".join(tasks), re.DOTALL):
        for line in body.splitlines():
            if "return" in line:
                assert line not in "\n".join(cells)
    with pytest.raises(NotImplementedError, match="To be written") as caught:
        run(cells)
    assert hints[0].replace('"', "'") in str(caught.value)


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_all_but_the_solutions_is_left_to_students(path):
    regions = re.compile(r"^ *# BEGIN SOLUTION.*?# END SOLUTION$", re.MULTILINE | re.DOTALL)
    stubs = re.compile(r"^ *# Your turn.*?^ *raise NotImplementedError\(.*?\)$", re.M | re.S)
    for cell in read_lab(path).cells:
        if "BEGIN SOLUTION" in cell.source:
            stub = stubbed(cell.source, path.name)
            assert stubs.sub("", stub) == regions.sub("", cell.source)
            compile(stub, path.name, "exec")


def unreachable(*arguments, **options):
    raise RuntimeError("Error downloading train-images")


def test_without_data_and_network_a_lab_goes_on_with_digits(tmp_path, monkeypatch, capsys):
    import torchvision

    monkeypatch.delenv("LAB_DATA")
    monkeypatch.setenv("PPL_DATA", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets, "MNIST", unreachable)
    cells = code_of(read_lab(LABS[1]))
    names = run(cells[:3])
    assert names["lab"].name == "digits"
    assert not names["lab"].is_mnist
    told = capsys.readouterr().out
    assert "NOTE: MNIST is not in" in told
    assert "goes on with 'digits' instead" in told


def test_the_exercise_sheet_has_three_questions_and_room_for_answers():
    (path,) = set(SOURCES) - set(LABS)
    notebook = student(read_lab(path), path.name)
    questions = [cell for cell in notebook.cells if "**Question.**" in cell.source]
    empty = [cell for cell in notebook.cells if cell.source.startswith("*Your answer:*")]
    assert len(questions) == len(empty) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda f, x: f(x), "this is f itself"),
        (lambda f, x: torch.func.vmap(torch.func.grad(f))(x).sum(), "one number for all"),
        (lambda f, x: torch.func.vmap(torch.func.grad(f))(x) / len(x), "not the mean"),
        (lambda f, x: torch.func.vmap(torch.func.grad(f))(x)[:, None], "its shape is [7, 1]"),
        (lambda f, x: 2 * x, "it is not the derivative"),
        (lambda f, x: x.requires_grad_().grad, "got nothing (None)"),
        (lambda f, x: f(x).backward(), "raised RuntimeError"),
        (lambda f, x: (f(x.requires_grad_()).sum().backward(), x.grad)[1], "a second call"),
    ],
)
def test_wrong_derivatives_get_their_hints(answer, words):
    with pytest.raises(check.Wrong, match=re.escape(words)):
        check.slope(answer)


def test_right_derivatives_are_accepted(capsys):
    def by_backward(f, x):
        x = x.clone().requires_grad_()
        f(x).backward(torch.ones_like(x))
        return x.grad

    for answer in (by_backward, lambda f, x: torch.func.vmap(torch.func.grad(f))(x)):
        check.slope(answer)
    assert capsys.readouterr().out.count("check.slope: right") == 2


@pytest.mark.parametrize(
    ("variable", "value"), [("LAB_DATA", "cifar100"), ("LAB_EPOCHS", "0"), ("LAB_EPOCHS", "many")]
)
def test_bad_settings_of_a_lab(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=f"{variable} is '{value}'"):
        open_lab()


def test_unknown_data_of_a_lab_are_answered_with_the_list(monkeypatch):
    monkeypatch.setenv("LAB_DATA", "fashion")
    with pytest.raises(
        UsageError, match=r"did you mean fashion_mnist.*digits, mnist, .*, cifar10"
    ):
        open_lab()


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_a_lab_runs_on_colour_images(path, monkeypatch, capsys):
    from experiments.data import as_data
    from experiments.teaching import lab

    def random_images(name):
        made = (torch.rand(rows, 3, 8, 8, dtype=torch.float32) for rows in (120, 50))
        return tuple(replace(as_data(x), labels=torch.arange(len(x)) % 10) for x in made)

    monkeypatch.setattr(lab, "load", random_images)
    monkeypatch.setenv("LAB_DATA", "cifar10")
    names = run(code_of(read_lab(path)))
    assert not names["lab"].is_mnist
    assert capsys.readouterr().out.count(": right (") >= 4


def test_the_first_cell_installs_from_the_address_that_the_package_has(monkeypatch):
    from email.message import Message

    about = Message()
    about["Version"] = "1.2.0"
    about["Project-URL"] = "Repository, https://example.org/us/ppl-models"
    monkeypatch.setattr(versions, "metadata", lambda name: about)
    for path in LABS:
        (cell,) = [c for c in read_lab(path).cells if "PROJECT = " in c.source]
        assert 'PROJECT = "git+https://example.org/us/ppl-models@v1.2.0"\n' in cell.source
        assert cell.source.endswith("%pip install --quiet {PROJECT}")


@pytest.mark.parametrize("code", ["x = (\n    7\n    % 4\n)", 'x = """\n! no command\n"""'])
def test_python_is_kept_where_a_line_begins_as_ipython_has_it(code):
    assert plain(code) == code


def test_lines_of_ipython_are_left_out():
    code = plain("%matplotlib inline\n!ls\ntorch.bernoulli?\nif True:\n    %pip install x")
    assert code == "pass\npass\npass\nif True:\n    pass"
    assert plain("%time\nx = (\n    7\n    % 4\n)") == "pass\nx = (\n    7\n    % 4\n)"
    assert plain("%%bash\n!ls\nls -l a b") == "pass\npass\nls -l a b"


def test_batches_show_every_image_once():
    lab = open_lab()
    rows = torch.cat(lab.batches())
    assert torch.equal(rows.sum(0).round(), lab.x_train.sum(0).round())
    assert len(rows) == 1437
    assert {len(batch) for batch in lab.batches()[:-1]} == {50}
    assert lab.images(lab.x_test).shape == (360, 1, 8, 8)


def test_weights_that_do_not_ship():
    with pytest.raises(UsageError, match="'cifar10' is unknown"):
        load_shipped("cifar10", torch.nn.Linear(1, 1))


def test_notebooks_are_written_and_kept_once_worked_on(tmp_path, capsys):
    nbformat = pytest.importorskip("nbformat", reason="comes with the extra 'labs'")
    config = labs.Config(execute=False, out=tmp_path)
    assert labs.main(config)["labs"] == [path.stem for path in SOURCES]
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.ipynb"))
    assert written == sorted(
        f"{kind}/{path.stem}.ipynb" for kind in ("student", "teacher") for path in SOURCES
    )
    for path in tmp_path.rglob("*.ipynb"):
        nbformat.validate(nbformat.read(path, 4))
        assert not worked_on(path)
    labs.main(config)  # nobody has touched them
    mine = tmp_path / "student" / f"{SOURCES[0].stem}.ipynb"
    notebook = nbformat.read(mine, 4)
    notebook.cells[-1].source += "\nMy answer."
    nbformat.write(notebook, mine)
    before = mine.read_bytes(), (tmp_path / "teacher" / mine.name).stat().st_mtime_ns
    with pytest.raises(UsageError, match="has been worked on"):
        labs.main(config)
    assert (mine.read_bytes(), (tmp_path / "teacher" / mine.name).stat().st_mtime_ns) == before


def test_a_zip_file_of_something_else_is_kept(tmp_path):
    config = labs.Config(labs=(1,), student=True, out=tmp_path / "out", zip=tmp_path / "labs.zip")
    labs.main(config)
    labs.main(config)  # replaces its own
    other = tmp_path / "handed-in.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("ada.ipynb", "{}")
    before = other.read_bytes()
    with pytest.raises(UsageError, match="was not written by labs"):
        labs.main(replace(config, zip=other))
    assert other.read_bytes() == before
    for more in ({"nbgrader": True}, {"task": "grade", "folder": tmp_path}):
        with pytest.raises(UsageError, match="--zip"):
            labs.main(replace(config, **more))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--labs", "9"], "there is no lab 9"),
        (["--source", "nowhere"], "there are no labs in"),
        (["--data", "cifar10"], "--data"),
        (["--out", "pyproject.toml"], "pyproject.toml"),
        (["--data", "mnist"], "cannot be downloaded"),
        (["--nbgrader", "--student", "--data", "mnist"], "does not use --student, --data"),
        (["--student", "--data", "mnist"], "labs --student does not use --data"),
    ],
)
def test_bad_input_of_the_command(words, told, tmp_path, monkeypatch, capsys):
    import torchvision

    monkeypatch.setattr(torchvision.datasets, "MNIST", unreachable)
    monkeypatch.setenv("PPL_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        cli(labs.Config, labs.main, ["--no-execute", "--out", str(tmp_path / "out"), *words])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "region",
    [
        "# BEGIN SOLUTION\nx = 1",
        "# BEGIN SOLUTION\nx = 1\n# END SOLUTION",
        "# HINT: alone",
        "    # BEGIN SOLUTION\n    # HINT: a\n# END SOLUTION",
    ],
)
def test_marks_that_do_not_fit_are_refused(region):
    with pytest.raises(UsageError, match="no end, or no hint"):
        stubbed(region, "lab9.md")


LAB = """---
kernelspec:
  display_name: Python 3
  name: python3
---

# A lab

```{{code-cell}} ipython3
{code}
```
"""


def test_a_kernel_runs_a_lab_and_stops_where_a_check_does(tmp_path, capfd):
    pytest.importorskip("nbclient", reason="comes with the extra 'labs'")
    pytest.importorskip("ipykernel", reason="comes with the extra 'labs'")
    source, out = tmp_path / "labs", tmp_path / "out"
    source.mkdir()
    (source / "lab1_right.md").write_text(LAB.format(code="print('fort' + 'y-two')"))
    wrong = "check.count_parameters(lambda module: len(list(module.parameters())))"
    code = f"from experiments.teaching import check\n{wrong}"
    (source / "lab2_wrong.md").write_text(LAB.format(code=code))
    labs.main(labs.Config(labs=(1,), source=source, out=out))
    assert "forty-two" in (out / "teacher/lab1_right.ipynb").read_text()
    with pytest.raises(TrainingError) as caught:
        labs.main(labs.Config(labs=(2,), source=source, out=out))
    assert "lab2_wrong.md" in str(caught.value)
    assert "count the numbers in them" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert not (out / "teacher/lab2_wrong.ipynb").exists()
