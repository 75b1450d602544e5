"""Whether and with which options a run directory can be continued."""

import dataclasses
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.errors import Finished, UsageError
from experiments.inference.parallel import is_main
from experiments.options.commands import COMMANDS
from experiments.options.common import MAY_CHANGE
from experiments.options.words import words_of
from experiments.runs.files import FORMAT, read_json, reading, remove_temporary
from experiments.runs.lock import LOCK

RESULTS = ("metrics.json", "report.html", "tensorboard")
"""Files that a run writes after training, the report last."""

FILES = ("config.json", "data.json", "metrics.jsonl", "metrics.json", "report.html")
"""Files of a run directory that a resumed run replaces, as it does the folder ``tensorboard``."""

DECIDES_BITS = ("versions", "threads", "processes", "device")
"""Entries of ``config.json`` on the machine; bit-identical results need the same ones."""


def is_finished(directory: Path) -> bool:
    """Whether a run has written its final figures and, after them, its report."""
    return all((directory / name).exists() for name in ("metrics.json", "report.html"))


def read_saved(command: str, options: dict[str, Any], config: Any) -> dict[str, Any] | None:
    """The saved configuration of the run in ``config.out``; ``None`` if there is none.

    Raises:
        UsageError: If it is a run of another command, or options differ; the message names them.
        Finished: If there is nothing left to do.
    """
    directory = config.out
    if directory.is_dir() and holds_nothing(directory):
        return None
    _check_kinds(directory)
    path = directory / "config.json"
    saved = read_json(path)
    if saved.get("format") != FORMAT or saved.get("command") != command:
        raise UsageError(
            f"{directory} is a run of '{saved.get('command')}', format "
            f"{saved.get('format')}; this is '{command}', format {FORMAT}."
        )
    with reading(path):
        then = {f.name: f.default for f in dataclasses.fields(config)} | asked_options(saved)
        with_history(saved, saved, 0)
    differing = [name for name, value in options.items() if then.get(name) != value]
    refused = [name for name in differing if name not in MAY_CHANGE]
    if refused:
        raise UsageError(
            f"--resume with other options than the run's: {', '.join(refused)} differ."
        )
    _check_epochs(directory, config)
    if is_finished(directory) and not {*differing} & {"epochs", "evaluate", "readjust"}:
        raise Finished(f"{directory} is finished: {directory / 'report.html'}")
    return saved


def asked_options(saved: dict[str, Any]) -> dict[str, Any]:
    """The options that a run was started with, from its ``config.json``."""
    return {**saved.get("asked", saved["options"])}


def _check_kinds(directory: Path) -> None:
    """Refuse to replace folders in place of files, and the reverse."""
    for name in (*FILES, "tensorboard"):
        path = directory / name
        fits = path.is_file() if name in FILES else path.is_dir() and not path.is_symlink()
        if os.path.lexists(path) and not fits:
            kind = "file" if name in FILES else "folder"
            raise UsageError(f"{path} is not the {kind} that a run writes: move it away first.")


def _check_epochs(directory: Path, config: Any) -> None:
    try:
        done = (directory / "metrics.jsonl").read_bytes().count(b"\n")
    except OSError:
        return
    if done > config.epochs and config.minutes is None:
        raise UsageError(
            f"{directory} has trained for {done} epochs, more than --epochs {config.epochs}."
        )


def holds_nothing(directory: Path) -> bool:
    """Whether a directory contains nothing except a lock and hidden files."""
    names = (path.name for path in directory.iterdir())
    return all(name == LOCK or name.startswith(".") for name in names)


def with_history(
    content: dict[str, Any], saved: dict[str, Any], epochs: int
) -> tuple[dict[str, Any], str]:
    """The ``config.json`` of a resumed run with the history of its machines, and a warning."""
    before = {name: saved.get(name) for name in DECIDES_BITS}
    then, now = _flat(before), _flat(content)
    changes = [
        f"{name} {then[name]}, now {now.get(name)}"
        for name in then
        if then[name] is not None and then[name] != now.get(name)
    ]
    history, warning = [*saved.get("history", [])], ""
    if changes:
        history.append({**before, "epochs": epochs})
        warning = (
            f"warning: resumed under other conditions ({'; '.join(changes)}): the results may "
            "differ in their last bits from those of an uninterrupted run."
        )
    return {**content, **({"history": history} if history else {})}, warning


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    versions = content.get("versions") or {}
    return {**versions, **{name: content.get(name) for name in DECIDES_BITS[1:]}}


def without_results(directory: Path) -> None:
    """Remove the results and temporary files of a run that is continued."""
    if not is_main():
        return
    for name in RESULTS:
        path = directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for folder in (directory, directory / "checkpoint", directory / "figures"):
        remove_temporary(folder)


def command_line(command: str, config: Any) -> list[str]:
    """The command line that started this run, perhaps as a part of another command.

    In your own script or notebook, it is made from the options.
    """
    program, *words = sys.argv
    name = Path(program).stem.replace("_", "-")  # of python -m experiments.vae
    ours = Path(__file__).parents[1] in Path(program).absolute().parents
    if not (ours and name in COMMANDS):
        if (ours or name in ("ppl", "experiments")) and words and words[0] in COMMANDS:
            name, *words = words
        else:
            name, words = command.replace("_", "-"), words_of(config)
    return ["python", "-m", "experiments", name, *words]


def resume_line(module: str, args: Sequence[str], directory: Path) -> str:
    """The command line that continues a run."""
    words = ["python", "-m", module, *args]
    given = [words[k + 1] for k, word in enumerate(words[:-1]) if word == "--out"]
    given += [word.removeprefix("--out=") for word in args if word.startswith("--out=")]
    last = Path(given[-1]).expanduser() if given else None  # which counts
    if last is None or last.absolute() != directory.absolute():
        words += ["--out", str(directory)]
    return shlex.join(words if "--resume" in args else [*words, "--resume"])
