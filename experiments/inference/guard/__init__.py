"""Refuses steps that are not finite, and explains why they were not."""

from experiments.inference.guard.guard import Diverged, Guard

__all__ = ["Diverged", "Guard"]
