"""A lab as a page of the site: the stub is shown, the solution is folded or left out."""

import re

from experiments.teaching.notebooks.myst import CODE, TAGS
from experiments.teaching.notebooks.versions import BEGIN, stubbed

MARKS = re.compile(r"^ *# (?:BEGIN SOLUTION|END SOLUTION|HINT: .*)\n", re.MULTILINE)
ANSWER = re.compile(
    r'^\+\+\+ \{"tags": \["answer"\]\}\n.*?(?=^\+\+\+|^```\{code-cell\}|\Z)', re.M | re.S
)
TEACHERS = re.compile(
    r"^<!-- for teachers -->\n.*?^<!-- for all -->\n|^\|[^\n]*\(\S*teachers\.md\)[^\n]*\n",
    re.M | re.S,
)
FOLDED = """---
tags: [hide-input]
mystnb:
  code_prompt_show: Solution
  code_prompt_hide: Solution
---
"""
LEFT_OUT = ":tags: [remove-cell]\n\n"


def lab_page(text: str, name: str, student: bool) -> str:
    """The source of a lab's page.

    Args:
        text: the lab's source.
        name: of the lab, for messages.
        student: whether solutions and answers are left out. Solutions are executed all the same:
            what comes after them needs them.

    Raises:
        UsageError: If a solution has no end or no hint.
    """

    def task(cell: re.Match[str]) -> str:
        tags = TAGS.match(cell[1])
        if student and tags and "teacher" in tags[1]:
            return ""
        if BEGIN not in cell[1]:
            return cell[0]
        source = TAGS.sub("", cell[1]).strip("\n")
        head = LEFT_OUT if student else FOLDED
        return (
            f"```python\n{stubbed(source, name)}\n```\n\n"
            f"```{{code-cell}} ipython3\n{head}{MARKS.sub('', source + chr(10))}```"
        )

    return CODE.sub(task, for_students(text) if student else text)


def for_students(text: str) -> str:
    """The source of a page without answers, and without what is for teachers."""
    return TEACHERS.sub("", ANSWER.sub("", text))
