"""What a run prints during training: progress, non-finite steps, and collapsed latents."""

from tqdm import tqdm

from experiments.data import Data
from experiments.errors import TrainingError
from experiments.inference.collapse import collapse_warnings
from experiments.inference.fit import Progress
from experiments.inference.guard import Guard
from experiments.inference.parallel import is_main
from experiments.inference.svi import SVI
from experiments.runs.run import Run
from guides import Guide
from ppl_models.random_numbers import forked_rng

LOOKS = 20
"""Number of checks of latents and sigma in a run, after its first quarter."""


class Watch:
    """Logs and shows progress, and warns."""

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
        broken = guard is not None and guard.consecutive > 0
        if is_main() and not broken and self._looks(progress):
            for words in collapsed(self.svi, self.svi.guide, self.rows, config.batch_size):
                self.run.warn(words)

    def _looks(self, progress: Progress) -> bool:
        """Whether latents and sigma are checked after this epoch, by its number or by the time."""
        config, epoch = self.run.config, progress.epoch
        if config.minutes is None:
            return epoch % max(1, config.epochs // LOOKS) == 0 and 4 * epoch >= config.epochs
        whole, now = 60 * config.minutes, self.run.train_seconds
        before = now - progress.seconds
        return LOOKS * now // whole > LOOKS * before // whole and 4 * now >= whole


def collapsed(svi: SVI, guide: Guide, data: Data, rows: int) -> list[str]:
    """Latents that a guide does not use, and a sigma that has diverged, in the first rows."""
    with forked_rng():
        batch = next(iter(data.batches(min(len(data), rows))))
        return list(collapse_warnings(svi.model, guide, batch).values())


def check_end(guard: Guard, steps: int) -> None:
    """Fail if no step of the last epoch was taken."""
    if guard.consecutive >= max(2, steps):
        raise TrainingError(
            f"training diverged: the last {guard.consecutive} steps were not finite; {guard.last}"
        )
