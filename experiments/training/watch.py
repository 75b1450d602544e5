"""What a run prints during training: progress, non-finite steps, and collapsed latents."""

import torch
from tqdm import tqdm

from experiments.data import Data
from experiments.errors import TrainingError
from experiments.inference.collapse import collapse_warnings
from experiments.inference.fit import Progress
from experiments.inference.guard import Guard
from experiments.inference.svi import SVI
from experiments.options.process.launched import is_main
from experiments.runs.run import Run

LOOKS = 20
"""Number of checks of latents and sigma in a run, after its first quarter."""


class Watch:
    """Logs and shows progress, and warns.

    Args:
        run: the run that prints it.
        svi: the pair in training.
        data: the rows.
    """

    def __init__(self, run: Run, svi: SVI, data: Data) -> None:
        self.run, self.svi, self.rows = run, svi, data.like(svi.model)

    def __call__(self, progress: Progress, epochs: int | None, bar: tqdm) -> None:
        """After an epoch: log it, show it, and warn."""
        self.run.record(progress)
        self._show(progress, epochs, bar)
        self._warn(progress)

    def _show(self, progress: Progress, epochs: int | None, bar: tqdm) -> None:
        run = self.run
        bar.update()
        line = f"loss {progress.loss:.4f} nats per data point"
        if not bar.disable:
            bar.set_postfix_str(line)
        elif epochs is None:
            run.say(f"epoch {progress.epoch}: {line}, {run.train_seconds / 60:.1f} minutes")
        elif progress.epoch % max(1, epochs // 20) == 0 or progress.epoch == epochs:
            run.say(f"epoch {progress.epoch}/{epochs}: {line}, {progress.seconds:.2f} s")
        if self.svi.compiled and self.svi.compiled.seconds > run.compile_seconds:
            run.compile_seconds = self.svi.compiled.seconds
            run.say(f"including {run.compile_seconds:.1f} s of compiling, once")

    def _warn(self, progress: Progress) -> None:
        guard, config = self.svi.guard, self.run.config
        if progress.skipped and guard and guard.last:
            self.run.warn(
                f"{guard.last} (epoch {progress.epoch}: {progress.skipped} of "
                f"{len(progress.losses)} steps skipped)"
            )
        now = progress.epoch % max(1, config.epochs // LOOKS) == 0
        broken = guard is not None and guard.consecutive > 0
        if is_main() and not broken and now and 4 * progress.epoch >= config.epochs:
            for words in self._collapsed().values():
                self.run.warn(words)

    def _collapsed(self) -> dict[str, str]:
        svi, rows = self.svi, self.rows
        with torch.random.fork_rng(devices=[]):
            index = torch.arange(min(len(rows), self.run.config.batch_size))
            batch = rows.batch(index.to(rows.pixels.device))
        return collapse_warnings(svi.model, svi.guide, batch)


def check_end(guard: Guard, steps: int) -> None:
    """Fail if no step of the last epoch was taken.

    Args:
        guard: of the run.
        steps: of an epoch.

    Raises:
        TrainingError: With the last reason.
    """
    if guard.consecutive >= max(2, steps):
        raise TrainingError(
            f"training diverged: the last {guard.consecutive} steps were not finite; {guard.last}"
        )
