"""Teaching: self-checks for the labs, their data, and their student and teacher versions."""

from experiments.teaching import check, lab

__all__ = ["check", "lab"]
