"""Grading: submitted notebooks are run again, and every check is called on what they define."""

from experiments.teaching.grading.grade import grade

__all__ = ["grade"]
