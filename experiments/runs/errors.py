"""What goes wrong, in one line."""

__all__ = ["Finished", "TrainingError", "UsageError"]


class UsageError(ValueError):
    """Bad input: printed as one line, exit code 2."""


class TrainingError(RuntimeError):
    """A run that failed on the way: printed as one line, exit code 1."""


class Finished(Exception):
    """There is nothing left to do: printed as it is, exit code 0."""
