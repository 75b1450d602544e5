"""Whether a run directory can be continued, by whom, and with what words."""

import dataclasses
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.runs.errors import Finished, UsageError
from experiments.runs.files import FORMAT, read_json
from experiments.runs.lock import LOCK
from experiments.runs.options import MAY_CHANGE

__all__ = ["command_line", "read_saved", "resume_line", "without_results"]

RESULTS = ("metrics.json", "report.html", "tensorboard")
"""What a run writes when its training is over."""


def read_saved(command: str, options: dict[str, Any], config: Any) -> dict[str, Any] | None:
    """What the run in ``config.out`` wrote of itself; ``None`` where it ended before it could.

    Raises:
        UsageError: If it is another command's run, or naming the options that differ.
        Finished: If there is nothing left to do.
    """
    directory = config.out
    if directory.is_dir() and not any(_of_a_run(path) for path in directory.iterdir()):
        return None
    saved = read_json(directory / "config.json")
    if not isinstance(saved, dict) or not isinstance(saved.get("options"), dict):
        raise UsageError(f"{directory}/config.json is not that of a run.")
    if saved.get("format") != FORMAT or saved.get("command") != command:
        raise UsageError(
            f"{directory} is a run of '{saved.get('command')}', format "
            f"{saved.get('format')}; this is '{command}', format {FORMAT}."
        )
    then = {f.name: f.default for f in dataclasses.fields(config)} | saved["options"]
    differing = [name for name, value in options.items() if then.get(name) != value]
    refused = [name for name in differing if name not in MAY_CHANGE]
    if refused:
        raise UsageError(
            f"--resume with other options than the run's: {', '.join(refused)} differ."
        )
    _check_epochs(directory, config)
    if (directory / "report.html").exists() and not {*differing} & {"epochs", "evaluate"}:
        raise Finished(f"{directory} is finished: {directory / 'report.html'}")
    return saved


def _check_epochs(directory: Path, config: Any) -> None:
    try:
        done = len((directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    except OSError:
        return
    if done > config.epochs and config.minutes is None:
        raise UsageError(f"{directory} has done {done} epochs already: --epochs {config.epochs}.")


def _of_a_run(path: Path) -> bool:
    return path.name != LOCK and not path.name.startswith(".")


def without_results(directory: Path) -> None:
    """Remove what said that a run was over: it goes on."""
    for name in RESULTS:
        path = directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def command_line(command: str) -> list[str]:
    """The words that started this run."""
    own = sys.argv[2:] if sys.argv[1:2] == [command] else sys.argv[1:]
    return ["python", "-m", f"experiments.{command.replace('-', '_')}", *own]


def resume_line(module: str, args: Sequence[str], directory: Path) -> str:
    """The words that continue a command's run."""
    words = ["python", "-m", module, *args]
    if not any(word == "--out" or word.startswith("--out=") for word in args):
        words += ["--out", str(directory)]
    return shlex.join(words if "--resume" in args else [*words, "--resume"])
