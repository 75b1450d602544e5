"""What goes wrong, in one line."""

__all__ = ["TrainingError", "UsageError"]


class UsageError(ValueError):
    """Bad input: printed as one line, exit code 2."""


class TrainingError(RuntimeError):
    """A run that failed on the way: printed as one line, exit code 1."""
