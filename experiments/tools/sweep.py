"""How do the figures change with the options? A grid of runs: guides x seeds x sizes.

--grid gives options several values, written like the command's options. Every combination is a run
in a separate directory below --out. The same command continues a sweep: finished runs are not
repeated, stopped ones continue from their checkpoints, and a larger grid adds its new points. A
run that fails does not stop the others. The result is a table, with means and standard errors over
seeds, and a figure.

    python -m experiments sweep vae --grid guide=amortized,flow seed=0,1,2 --with data=digits
    python -m experiments sweep ppca --grid guide.covariance=diagonal,full --with guide=amortized
    python -m experiments sweep ppca --grid guide=exact,amortized:covariance=full --dry-run
    python -m experiments sweep vae --grid 'hidden_dims=(200,200),(400)' centre=true,false --jobs 2
    python -m experiments sweep evaluate --grid run=runs/a,runs/b particles=1,10,100

On a cluster, give the command lines that --dry-run lists to its scheduler; the same sweep then
writes their table.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tqdm import tqdm

from experiments.errors import TrainingError
from experiments.options.ranges import Count
from experiments.runs.cli import cli
from experiments.runs.directory import locked
from experiments.runs.signals import Signals
from experiments.sweeps.grid import read_grid
from experiments.sweeps.launch import launch_all
from experiments.sweeps.plan import Planned, check_directory, plan, save_plan
from experiments.sweeps.report import rows_of, save_sweep

FIGURES = (
    "test.elbo",
    "test.iw_bound",
    "test.log_evidence",
    "test.log_joint",
    "test.squared_error",
    "seconds.train",
    "memory.peak_gib",
)


@dataclass(frozen=True)
class Config:
    command: tyro.conf.Positional[str]
    """Command to run: vae, ppca, train, nvae, ...; or evaluate, gaps, ... with run=DIRECTORY."""
    grid: tuple[str, ...] = ()
    """NAME=VALUE,VALUE,... for every option that varies. Options of guides are guide.NAME for all
    guides, or follow one guide (guide=amortized:covariance=full,flow); put a value with commas in
    brackets."""
    with_: Annotated[tuple[str, ...], tyro.conf.arg(name="with")] = ()
    """NAME=VALUE for every option that all runs share."""
    figures: tuple[str, ...] = FIGURES
    """Entries of metrics.json to show in the table; the figure shows the first one that exists."""
    jobs: Count = 1
    """Number of runs at a time; they share the CPU threads."""
    dry_run: bool = False
    """List the runs and their progress, and stop."""
    out: Path | None = None
    """Directory of the runs; by default runs/sweep-<command>."""


def main(config: Config) -> dict[str, Any]:
    grid = read_grid(config.grid, config.with_)
    out = (config.out or Path("runs") / f"sweep-{config.command}").absolute()
    check_directory(config.command, out)
    runs = plan(config.command, grid, out)
    if config.dry_run:
        return list_runs(runs)
    with locked(out), Signals():
        check_directory(config.command, out)  # another sweep may have been there until now
        for run in runs:
            run.check_options()
        save_plan(config.command, out)
        waiting = [run for run in runs if run.state != "finished"]
        errors = run_all(waiting, len(runs), config.jobs)
        rows = rows_of(runs, errors, config.figures)
        good = [run for run in runs if not errors.get(run.name)]
        metrics = save_sweep(out, config.command, grid, good, rows)
    unseen = [name for name in config.figures if name not in rows[0]]
    if config.figures != FIGURES and good and unseen:
        tqdm.write(f"warning: no run has the figure {', '.join(unseen)} in its metrics.json")
    tqdm.write(
        f"\n{metrics['text']}saved as {out / 'table.md'}"
        + (f", drawn in {out / 'figure.png'}" if metrics["figure"] else "")
    )
    failed = [name for name, error in errors.items() if error]
    if failed:
        raise TrainingError(f"{len(failed)} of {len(runs)} runs failed; see {out / 'logs'}.")
    return metrics


def list_runs(runs: Sequence[Planned]) -> dict[str, Any]:
    """Print every run, its command line and how far it has come."""
    for run in runs:
        run.check_options()
    for run in runs:
        words = shlex.join([*run.arguments, "--out", str(run.path)])
        tqdm.write(f"{run.state}: {run.name}\n    python -m {run.module} {words}")
    counts = Counter(run.state for run in runs)
    total = ", ".join(f"{number} {state}" for state, number in counts.items())
    tqdm.write(f"{len(runs)} runs: {total}; none was started.")
    return {"runs": {run.name: run.state for run in runs}}


def run_all(runs: Sequence[Planned], total: int, jobs: int) -> dict[str, str | None]:
    """Run what is not finished and print how each run ended; errors by the name of the run."""
    tqdm.write(f"{total} runs, {total - len(runs)} of them finished before")
    errors: dict[str, str | None] = {}
    if not runs:
        return errors
    for outcome in launch_all(runs, jobs):
        errors[outcome.name] = outcome.error
        words = f"failed: {outcome.error}" if outcome.error else "finished"
        tqdm.write(f"{len(errors)}/{len(runs)} {outcome.name}: {outcome.seconds:.1f} s, {words}")
    return errors


if __name__ == "__main__":
    cli(Config, main)
