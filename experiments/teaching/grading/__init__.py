"""Grading: submitted notebooks are run again, and every check is called on what they define."""
