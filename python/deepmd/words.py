"""Which known word somebody probably meant: shared by the command line and the checks of input.json."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LEAST_LIKENESS = 0.6


def nearest(word: object, known: Iterable[str]) -> str | None:
    """The known name that `word` most resembles, the first of equals, or None when nothing comes close."""
    matcher = difflib.SequenceMatcher(b=str(word).lower())
    best, score = None, LEAST_LIKENESS
    for name in known:
        matcher.set_seq1(name.lower())
        if matcher.real_quick_ratio() > score and matcher.ratio() > score:
            best, score = name, matcher.ratio()
    return best
