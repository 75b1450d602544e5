"""The wrong answers and what the checks say of them.

``python -m tests.experiments.teaching.wrong_answers --all`` prints every hint, to be read for its
truth.
"""

import collections
import contextlib
import io
import re
import sys

import torch

from experiments.teaching import check
from tests.experiments.teaching import answers_first, answers_second
from tests.experiments.teaching.written_answers import call

KINDS = ("specific", "generic", "false", "missed")
GENERIC = re.compile(
    r"is wrong\. It is (off by|right where|-?[\d.e+-]+ times what)|is wrong\. It holds NaN"
    r"|is wrong\. Its shape is|called the function with|the number is wrong|"
    r"is wrong\. Its sign is"
)


def hint_of(name, source):
    """What the check says of an answer; None if it finds nothing wrong."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            call(name, source)
        except check.Wrong as error:
            return str(error)
    return None


def kind_of(expected, hint):
    """specific, generic, false or missed."""
    if hint is None:
        return "missed"
    words = re.sub(r"check\.\w+", "", hint)
    if GENERIC.search(hint):
        return "generic"
    return "specific" if expected and re.search(expected, words) else "false"


def all_answers():
    """Half, check, what a hint has to say, and source."""
    for half, module in (("first", answers_first), ("second", answers_second)):
        for name, answers in module.WRONG.items():
            for expected, source in answers:
                yield half, name, expected, source


def main(show=()):
    torch.set_default_dtype(torch.float32)
    counts = collections.defaultdict(collections.Counter)
    for half, name, expected, source in all_answers():
        hint = hint_of(name, source)
        kind = kind_of(expected, hint)
        counts[half, name][kind] += 1
        if kind in show:
            print(f"{kind:8} {name} | {expected} | {source!r}\n         -> {hint}")
    print(f"{'check':24}" + "".join(f"{kind:>10}" for kind in KINDS))
    for half in ("first", "second"):
        total = collections.Counter()
        for (of, name), found in counts.items():
            if of == half:
                total += found
                print(f"{name:24}" + "".join(f"{found[kind]:10}" for kind in KINDS))
        print(f"{half + ' half':24}" + "".join(f"{total[kind]:10}" for kind in KINDS))
    whole = sum(counts.values(), collections.Counter())
    print(f"{'all':24}" + "".join(f"{whole[kind]:10}" for kind in KINDS))
    share = whole["specific"] / sum(whole.values())
    print(f"{sum(whole.values())} wrong answers, {share:.1%} with a specific hint")


if __name__ == "__main__":
    main(KINDS if "--all" in sys.argv else sys.argv[1:])
