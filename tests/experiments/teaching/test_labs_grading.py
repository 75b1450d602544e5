"""Grading: points come from outside of a notebook, whatever the notebook does."""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.errors import UsageError
from experiments.runs.cli import cli
from experiments.teaching.grading import running, worker
from experiments.teaching.grading.grade import answers_of, grade, lab_of, recognised
from experiments.teaching.grading.submissions import submissions
from experiments.teaching.notebooks.myst import calls_of, read_myst
from experiments.teaching.notebooks.sources import find_labs
from experiments.teaching.notebooks.versions import PROMPT, read_lab, student
from experiments.tools import labs
from tests.shared.forked import Process, as_new

SOURCE = find_labs(numbers=(1,))[0]
CHECKS = ["lab1.pca", "lab1.pca_encoder", "lab1.pca_decoder", "lab1.squared_error"]
SOLVED = ["import torch"]
SOLVED += [cell.source for cell in read_lab(SOURCE).cells if "BEGIN SOLUTION" in cell.source]
"""Cells that define the right answers and do nothing else."""


def handed_in(solved=True, first=()):
    """Lab 1 as a student hands it in, after cells of one's own."""
    notebook = student(read_lab(SOURCE), SOURCE.name)
    if solved:
        right = {c.id: c.source for c in read_lab(SOURCE).cells}
        for cell in notebook.cells:
            if "task" in cell.metadata["tags"]:
                cell.source = right[cell.id]
    notebook.cells = [*map(code, first), *notebook.cells]
    return notebook


def made_of(*cells):
    """Lab 1 with these cells instead of its own, most of which draw pictures."""
    notebook = handed_in()
    notebook.cells = [*map(code, cells)]
    return notebook


def code(source):
    return {"cell_type": "code", "metadata": {"tags": []}, "source": source}


def graded(folder, seconds=60.0):
    """The table, by students, and the page of answers."""
    out = folder.parent / "results" / "grades.csv"
    grade(folder, [SOURCE], out, seconds)
    with out.open(encoding="utf-8", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    return rows, out.with_suffix(".html").read_text(encoding="utf-8")


def points(row):
    return [row[key] for key in CHECKS]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "handed in"
    path.mkdir()
    return path


def put(folder, name, notebook):
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(notebook), encoding="utf-8")


class Forked(Process):
    """``subprocess.Popen`` as grading calls it: a fork of this process, which has torch."""

    def __init__(self, command, *, cwd, env, **_):
        reads, self.order = os.pipe()

        def become_worker():
            os.setsid()  # it is ended with all that it starts, and this process is not
            os.dup2(reads, 0)
            os.closerange(3, 4096)  # a notebook writes into whatever is open
            sys.stdin = open(0, closefd=False)  # noqa: SIM115
            os.environ.clear()
            os.environ.update(env)
            as_new()
            worker.main()
            sys.exit()

        super().__init__([], Path(tempfile.mkdtemp()), become_worker, Path(cwd))
        os.close(reads)

    def communicate(self, order=None, timeout=None):
        if order is not None:
            with open(self.order, "wb") as pipe:
                pipe.write(order)
        self.wait(timeout)
        return (self.child.said / "out").read_bytes(), None


@pytest.fixture
def forked(monkeypatch):
    """Notebooks run in forks, which import nothing; one test below starts Python itself."""
    names = ("PIPE", "DEVNULL", "TimeoutExpired")
    same = {name: getattr(subprocess, name) for name in names}
    monkeypatch.setattr(running, "subprocess", SimpleNamespace(Popen=Forked, **same))


@pytest.mark.usefixtures("forked")
def test_a_zip_a_folder_and_a_file_become_rows_with_points_and_answers(folder):
    right = handed_in()
    (answer, *_) = [c for c in right.cells if c.source.startswith("*Your answer:*")]
    answer.source += "They do, says <script>alert(1)</script> Zoë."
    with zipfile.ZipFile(folder / "Zoë.zip", "w") as archive:
        archive.writestr("./lab1/Übung.ipynb", json.dumps(right))
        archive.writestr("__MACOSX/students/._Übung.ipynb", "resource fork")
    put(folder, "李雷/lab1_pca.ipynb", handed_in(solved=False))
    put(folder, "Åsa_lab1_pca.ipynb", {**handed_in(), "metadata": {}})
    rows, page = graded(folder)
    assert list(rows) == sorted(["Zoë", "李雷", "Åsa"])
    assert points(rows["Zoë"]) == ["1"] * 4
    assert (rows["Zoë"]["points"], rows["Zoë"]["of"], rows["Zoë"]["answers"]) == ("4", "4", "1")
    assert rows["Zoë"]["errors"] == rows["Zoë"]["replaced"] == ""
    assert points(rows["李雷"]) == ["0"] * 4
    assert points(rows["Åsa"]) == ["1"] * 4
    assert "lost its metadata" in rows["Åsa"]["errors"]
    assert "They do, says &lt;script&gt;" in page
    assert "<script>" not in page
    assert "To be written: centre first" in page


IMPORTS = "import torch\nfrom experiments.teaching import check"
WRONG = """
def pca(x, latent_dim):
    return x.mean(0), torch.linalg.svd(x)[2][:latent_dim].mT
def encode(x, mean, components):
    return x @ components
def decode(z, mean, components):
    return z @ components.mT
def squared_error(x, reconstruction):
    return (x - reconstruction).square().mean()
"""
ATTACKS = {
    "replaces check": [
        "class check:\n    pca = pca_encoder = pca_decoder = squared_error = print",
    ],
    "replaces its functions": ["for name in check.__all__: setattr(check, name, print)"],
    "replaces its parts": [
        "import sys\n"
        "for name, module in list(sys.modules.items()):\n"
        "    if name.startswith('experiments.teaching.') and 'grading' not in name:\n"
        "        for key, value in list(vars(module).items()):\n"
        "            if callable(value): setattr(module, key, lambda *_, **__: True)",
    ],
    "replaces torch": ["torch.allclose = torch.equal = lambda *_, **__: True"],
    "replaces the class": ["import ppl_models\nppl_models.PCA.__init__ = None"],
    "prints results": ["import os\nfor fd in range(3, 64):\n    try: os.write(fd, "
        "b'{\"check\": \"lab1.pca\", \"hint\": \"\"}\\n')\n    except OSError: pass"],
}  # fmt: skip


@pytest.mark.usefixtures("forked")
def test_nothing_that_a_notebook_replaces_brings_points(folder):
    for name, cells in ATTACKS.items():
        put(folder, f"{name}.ipynb", made_of(IMPORTS, *cells, WRONG))
    all_of_them = [cell for cells in reversed(ATTACKS.values()) for cell in cells]
    put(folder, "right.ipynb", handed_in(True, first=["import torch", *all_of_them]))
    rows, _ = graded(folder)
    assert points(rows.pop("right")) == ["1"] * 4
    assert len(rows) == len(ATTACKS)
    for name, row in rows.items():
        assert points(row) == ["0"] * 4, name
        assert (row["replaced"] != "") is (name not in ("records results", "prints results")), name


@pytest.mark.usefixtures("forked")
def test_loops_exits_and_lost_cells_cost_what_comes_after_and_no_more(folder):
    put(folder, "loop.ipynb", made_of("while True: pass", *SOLVED))
    stubborn = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass"
    put(folder, "stubborn loop.ipynb", made_of(*SOLVED, stubborn))
    put(folder, "exit.ipynb", made_of("exit()", "raise SystemExit", *SOLVED))
    put(folder, "hard exit.ipynb", made_of(*SOLVED, "import os; os._exit(0)"))
    put(folder, "lost.ipynb", made_of(*SOLVED))
    rows, _ = graded(folder, seconds=5.0)
    for name, row in rows.items():
        assert points(row) == ["1"] * 4, (name, row["errors"])
    assert "cell 1: stopped, it took too long" in rows["loop"]["errors"]
    assert "took longer than 5 seconds" in rows["stubborn loop"]["errors"]
    assert "cell 1: SystemExit" in rows["exit"]["errors"]
    assert "ended the process" in rows["hard exit"]["errors"]
    assert rows["lost"]["errors"] == ""


LATE = {
    "length(x - reconstruction).mean()": "def length(d): return d.square().sum(1)",
    "F.mse_loss(x, reconstruction, reduction='sum') / len(x)": "import torch.nn.functional as F",
}


@pytest.mark.usefixtures("forked")
def test_helpers_and_imports_may_come_after_what_uses_them(folder):
    for number, (value, helper) in enumerate(LATE.items()):
        task = f"def squared_error(x, reconstruction):\n    return {value}"
        put(folder, f"{number}.ipynb", made_of(task, helper, "1 + 1"))
    rows, page = graded(folder)
    assert [row["lab1.squared_error"] for row in rows.values()] == ["1", "1"], page


@pytest.mark.usefixtures("forked")
def test_a_check_whose_function_is_missing_is_named(folder):
    put(folder, "renamed.ipynb", made_of(*SOLVED[:-1], SOLVED[-1].replace("squared_error", "mse")))
    rows, page = graded(folder)
    assert points(rows["renamed"]) == ["1", "1", "1", "0"]
    assert "squared_error: not called, since the notebook does not define squared_error" in page
    assert "all right" not in page


@pytest.mark.usefixtures("forked")
def test_an_error_without_words_brings_no_point_and_is_called_by_its_type(folder):
    blank = "def pca(x, latent_dim): raise NotImplementedError(' ')"
    nameless = "def squared_error(x, y): raise type('', (BaseException,), {})"
    put(folder, "silent.ipynb", made_of(blank, nameless))
    mute = "class Mute(BaseException):\n    def __str__(self): raise self"
    failing = "def encode(x, mean, components): raise Mute"
    put(folder, "mute.ipynb", made_of(mute, failing, "raise Mute", *SOLVED[:1], SOLVED[-1]))
    rows, page = graded(folder)
    assert points(rows["silent"]) == ["0"] * 4
    assert "lab1.pca: Unwritten\n" in page
    assert "lab1.squared_error: error\n" in page
    assert points(rows["mute"]) == ["0", "0", "0", "1"], rows["mute"]["errors"]
    assert "cell 3: Mute" in rows["mute"]["errors"]
    assert "lab1.pca_encoder: Mute\n" in page


@pytest.mark.usefixtures("forked")
def test_cells_have_a_source_and_nothing_is_compiled(folder):
    """As TorchScript and ``torch.compile`` need it, where no compiler may be started."""
    sourced = "import inspect\nassert 'square' in inspect.getsource(squared_error)"
    eager = "import os\nassert os.environ['TORCHDYNAMO_DISABLE'] == '1'"
    failing = SOLVED[-1].replace(".mean()", ".average()")
    put(folder, "right.ipynb", made_of(*SOLVED, sourced, eager))
    put(folder, "wrong.ipynb", made_of(*SOLVED[:-1], failing))
    rows, page = graded(folder)
    assert rows["right"]["errors"] == ""
    assert "(in the line `return (x - reconstruction)" in page


COLAB = """
if "google.colab" in str(get_ipython()):
    %pip install torch
get_ipython().run_line_magic("matplotlib", "inline")
import torch
"""


@pytest.mark.usefixtures("forked")
def test_cells_that_ask_for_ipython_run_to_their_end(folder):
    put(folder, "colab.ipynb", made_of(COLAB, *SOLVED[1:]))
    rows, _ = graded(folder)
    assert points(rows["colab"]) == ["1"] * 4
    assert rows["colab"]["errors"] == ""


REFUSED = {
    "import socket; socket.create_connection(('127.0.0.1', 9), 1)": "network|Network",
    "import urllib.request; urllib.request.urlopen('http://192.0.2.1/')": "network",
    "import subprocess; subprocess.run(['true'])": "no other programs",
    "import os; os.system('true')": "no other programs",
    "import os; os.kill(os.getppid(), 9)": "no signals",
    "open('{outside}', 'w').write('x')": "no writing",
    "import os; os.remove('{outside}')": "no changes",
    "import pathlib; pathlib.Path('{outside}').unlink()": "no changes",
    "import pathlib, shutil; shutil.rmtree(pathlib.Path('{outside}').parent)": "no changes",
    "open('mine.txt', 'w').write('x'); assert open('mine.txt').read() == 'x'": "",
}


def test_no_network_no_programs_and_no_files_elsewhere(folder):
    outside = folder.parent / "precious.txt"
    outside.write_text("kept")
    cells = [line.replace("{outside}", str(outside)) for line in REFUSED]
    put(folder, "eve.ipynb", handed_in(True, first=cells))
    rows, _ = graded(folder)
    errors = rows["eve"]["errors"].split("; ")
    expected = [word for word in REFUSED.values() if word]
    assert len(errors) == len(expected)
    for error, words in zip(errors, expected, strict=True):
        assert any(word in error for word in words.split("|")), error
    assert outside.read_text() == "kept"
    assert points(rows["eve"]) == ["1"] * 4


def damaged(name):
    """A zip file whose index can be read, and what is in it cannot."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, "[]" * 50)
        start = archive.getinfo(name).header_offset + 30 + len(name)
    content = bytearray(file.getvalue())
    content[start] = 0xFF  # a kind of block that there is not
    return bytes(content)


@pytest.mark.usefixtures("forked")
def test_what_is_no_notebook_of_these_labs_is_named(folder):
    (folder / "broken_lab1.ipynb").write_text("{ this is no JSON")
    (folder / "empty_lab1.ipynb").write_bytes(b"")
    (folder / "list.ipynb").write_text("[1, 2]")
    (folder / "damaged.zip").write_bytes(b"PK no zip")
    (folder / "dan_lab1.tar.gz").write_bytes(b"an archive")
    (folder / "notes.txt").write_text("of the teacher")
    (folder / "damaged inside.zip").write_bytes(damaged("lab1_pca.ipynb"))
    with zipfile.ZipFile(folder / "carol.zip", "w") as archive:
        archive.writestr("lab1.pdf", b"%PDF-1.4")
    for name in ("bob", "_bo", "__MACOSX", ".ipynb_checkpoints"):
        (folder / name).mkdir()
        (folder / name / "lab1_pca.py").write_text("x = 1")
    put(folder, "odd.ipynb", {"cells": [], "metadata": {"ppl_models": {"lab": ["lab1_pca"]}}})
    other, old = handed_in(), handed_in()
    other["metadata"]["ppl_models"]["lab"] = "lab9_gan"
    old["metadata"]["ppl_models"]["version"] = "000000000000"
    put(folder, "other.ipynb", other)
    put(folder, "_ada/lab1_pca.ipynb", other)
    put(folder, "old.ipynb", old)
    rows, _ = graded(folder)
    assert "is no notebook" in rows["broken"]["errors"]
    assert "is no notebook (empty)" in rows["empty"]["errors"]
    assert "is no notebook" in rows["list"]["errors"]
    assert "is no readable zip file" in rows["damaged"]["errors"]
    assert "dan_lab1.tar.gz is no zip file" in rows["dan"]["errors"]
    assert "notes" not in rows
    assert "is no readable zip file" in rows["damaged inside"]["errors"]
    assert "there is no notebook in carol.zip" in rows["carol"]["errors"]
    assert "there is no notebook in bob" in rows["bob"]["errors"]
    assert "there is no notebook in _bo" in rows["_bo"]["errors"]
    assert "is none of the labs" in rows["_ada"]["errors"]
    assert not {"__MACOSX", ".ipynb_checkpoints"} & set(rows)
    assert "is none of the labs" in rows["odd"]["errors"]
    assert "is none of the labs lab1_pca, but lab9_gan" in rows["other"]["errors"]
    assert "is another version of lab1_pca" in rows["old"]["errors"]
    assert points(rows["old"]) == ["1"] * 4
    assert all(row["points"] == "0" for name, row in rows.items() if name != "old")


@pytest.mark.usefixtures("forked")
def test_names_are_no_formulas_and_the_better_of_two_notebooks_counts(folder):
    put(folder, "=1+1/lab1_pca.ipynb", handed_in(solved=False))
    put(folder, "=1+1/lab1_pca (2).ipynb", handed_in())
    for path in folder.rglob("*.ipynb"):
        path.write_text(path.read_text().replace("*Your answer:*", "*Your answer:* Yes.", 1))
    rows, _ = graded(folder)
    assert points(rows["'=1+1"]) == ["1"] * 4
    assert rows["'=1+1"]["answers"] == "1"


@pytest.mark.parametrize(
    "name",
    [
        "Alice_Lab1_PCA.ipynb",
        "Alice_lab1_pca-Copy1.ipynb",
        "Alice Lab 1.ipynb",
        "Alice_lab1_pca - Kopie (2).ipynb",
        "Alice_lab1_pca-final-v2.ipynb",
        "Alice_lab1_pca.ipynb.txt",
        "Alice_lab1_pca.ipynb.json",
    ],
)
def test_a_renamed_notebook_is_of_the_same_student_and_lab(name, folder):
    put(folder, name, {"cells": [], "metadata": {}})
    (one,) = submissions(folder)
    assert one.student == "Alice"
    assert recognised(one, {"lab1_pca": lab_of(SOURCE)})[0] == "lab1_pca"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["grade"], "needs the folder"),
        (["write", "here"], "needs the folder"),
        (["grade", "nowhere"], "nowhere: there is no such folder"),
        (["grade", "."], "there are no notebooks in ."),
        (["grade", ".", "--out", "grades.html"], "no name for a table"),
        (["grade", ".", "--labs", "9"], "there is no lab 9"),
        (["grade", ".", "--seconds", "0"], "--seconds must be above 0"),
        (["grade", ".", "--nbgrader"], "labs grade does not use --nbgrader"),
        (["grade", ".", "--no-execute"], "labs grade does not use --no-execute"),
    ],
)
def test_bad_input_of_grading(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli(labs.Config, labs.main, words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_check_of_every_lab_is_worth_a_point():
    keys = [key for source in find_labs() for key in lab_of(source).calls]
    calls = [call for source in find_labs() for call in calls_of(read_lab(source))]
    assert len(calls) == len(set(keys)) >= 21
    assert set(CHECKS) < set(keys)


def text(source, **metadata):
    return {"cell_type": "markdown", "id": "f00", "metadata": metadata, "source": source}


@pytest.mark.parametrize("named", [True, False])
def test_an_answer_in_several_cells_is_shown_as_a_whole(named):
    notebook = handed_in()
    if not named:
        for cell in notebook.cells:
            cell.metadata.pop("nbgrader", None)
    first, second = [n for n, c in enumerate(notebook.cells) if c["source"].startswith(PROMPT)][:2]
    notebook.cells[second]["source"] += "Yes."
    notebook.cells[first]["source"] += "They do:"
    marks = {"nbgrader": {"grade_id": "answer-1"}} if named else {}
    added = text("the clouds", **marks), text("have one shape."), text("")
    notebook.cells[first + 1 : first + 1] = added
    found = answers_of(notebook, lab_of(SOURCE).notebook)
    assert found["answer-1"] == "They do:\n\nthe clouds\n\nhave one shape."
    assert found["answer-2"] == "Yes."
    assert not any(found[name] for name in list(found)[2:])


def test_a_lab_without_a_name_of_its_own_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there are no labs in"):
        find_labs(tmp_path)
    (tmp_path / "lab1_pca.md").touch()
    (tmp_path / "lab2-ppca.md").touch()
    with pytest.raises(UsageError, match=r"lab2-ppca\.md: sources of labs are called"):
        find_labs(tmp_path)
    (tmp_path / "lab2-ppca.md").rename(tmp_path / "lab01_pca.md")
    with pytest.raises(UsageError, match="are both lab 1"):
        find_labs(tmp_path)


def test_cells_may_have_metadata_without_tags():
    (cell,) = read_myst('+++ {"editable": true}\n\nText\n').cells
    assert (cell.source, cell.metadata.tags) == ("Text", [])
