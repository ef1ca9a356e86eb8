"""The input of `dp train`: read it, bring it up to date, check it, fill it up, document it.

raw = load_input("input.json")
current, changes = upgrade(raw)
full = normalise(current)
"""

from __future__ import annotations

from .built import BUILT
from .doc import doc, gui
from .load import load_input
from .multi_task import is_multi_task
from .normalise import normalise
from .schema import train_schema, train_schema_multi
from .upgrade import upgrade

__all__ = [
    "BUILT",
    "doc",
    "gui",
    "is_multi_task",
    "load_input",
    "normalise",
    "train_schema",
    "train_schema_multi",
    "upgrade",
]
