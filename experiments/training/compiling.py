"""The rule that decides whether a run compiles its steps; the decision is printed and saved."""

import os

from experiments.data import Data
from experiments.errors import UsageError
from experiments.runs.run import Run
from guides import Guide
from guides.local import PerDatumGuide

LEAST_STEPS = 5000
"""Minimum number of steps of a run that is compiled by default."""

LEAST_MINUTES = 10.0
"""Minimum duration of a run that is compiled by default, if it has a time limit."""


def compiles(run: Run, guide: Guide, data: Data) -> bool:
    """Whether steps are compiled, as requested or by the rule; prints the rule.

    A resumed run keeps its decision. The rule depends on the configuration (and ``PPL_COMPILE``),
    not on a clock, so that the same command draws the same numbers everywhere.
    """
    config = run.config
    if run.saved is not None:
        run.compiled = bool(run.saved.get("compiled"))
    elif config.compile is not None:
        run.compiled = config.compile
    else:
        run.compiled, words = _rule(run, guide, data)
        run.say(words)
    return run.compiled


def _rule(run: Run, guide: Guide, data: Data) -> tuple[bool, str]:
    config = run.config
    if isinstance(guide, PerDatumGuide):
        return False, "eager steps: rows of a per-datum guide are updated sparsely"
    if getattr(config, "checkpoint_levels", False):
        return False, "eager steps: compiling would undo the memory savings of --checkpoint-levels"
    if asked := os.environ.get("PPL_COMPILE"):
        if asked not in ("0", "1"):
            raise UsageError(f"the environment variable PPL_COMPILE is {asked!r}: use 0 or 1.")
        words = "compiled" if asked == "1" else "eager"
        return asked == "1", f"{words} steps: PPL_COMPILE={asked}"
    if config.minutes is not None:
        long = config.minutes >= LEAST_MINUTES
        than = "at least" if long else "fewer than"
        size = f"{config.minutes:g} minutes, {than} {LEAST_MINUTES:g}"
    else:
        steps = config.epochs * -(-len(data) // config.batch_size)
        long = steps >= LEAST_STEPS
        size = f"{steps} steps, {'at least' if long else 'fewer than'} {LEAST_STEPS}"
    if long:
        return True, f"steps are compiled: the run takes {size} (--no-compile turns this off)"
    return False, f"steps run eagerly: the run takes {size} (--compile compiles them)"
