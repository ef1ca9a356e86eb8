"""Words for errors: how a value is shown, what a type is called, how the sentence is built."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable
from typing import Any, NoReturn

from deepmd.errors import InputError
from deepmd.words import nearest

__all__ = ["fail", "join", "listed", "members", "missing", "nearest", "require", "show", "type_words"]

SHOWN_WIDTH = 70

_ONE = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    dict: "a section",
    list: "a list",
    type(None): "null",
}
_MANY = {
    bool: "true or false values",
    int: "integers",
    float: "numbers",
    str: "strings",
    dict: "sections",
    list: "lists",
    type(None): "nulls",
}
_ORDER = [bool, int, float, str, list, dict, type(None)]


def show(value: Any) -> str:
    """A value as the user wrote it: one line, JSON words, cut at SHOWN_WIDTH characters."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False, skipkeys=True)
    return text if len(text) <= SHOWN_WIDTH else text[: SHOWN_WIDTH - 3] + "..."


def join(path: str, key: object) -> str:
    """The path of a key inside the section at `path`, where the root is the empty string."""
    return f"{path}/{key}" if path else str(key)


def listed(names: Iterable[object]) -> str:
    """Names in a row, separated by commas."""
    return ", ".join(str(name) for name in names)


def fail(path: str, value: Any, expected: str, remedy: str = "") -> NoReturn:
    """Raise the one-sentence error: path, what was got, what was expected, what to do."""
    tail = f"; {remedy}" if remedy else ""
    raise InputError(f"{path}: got {show(value)}, expected {expected}{tail}")


def missing(path: str, expected: str, remedy: str = "add this key") -> NoReturn:
    """Raise the one-sentence error of a key that is not there."""
    raise InputError(f"{path}: got nothing, expected {expected}; {remedy}")


def require(condition: bool, path: str, value: Any, expected: str, remedy: str = "") -> None:
    """Fail with the same words unless the condition holds."""
    if not condition:
        fail(path, value, expected, remedy)


def members(dtype: Any) -> tuple[Any, ...]:
    """The alternatives of a type: a union or a tuple of types gives its parts, any other type itself."""
    if isinstance(dtype, tuple):
        return dtype
    if typing.get_origin(dtype) in (types.UnionType, typing.Union):
        return typing.get_args(dtype)
    return (dtype,)


def _rank(dtype: Any) -> int:
    return _ORDER.index(typing.get_origin(dtype) or dtype)


def type_words(dtype: Any, many: bool = False) -> str:
    """A type in words, such as `a list of integers or a string`."""
    parts = sorted(members(dtype), key=_rank)
    if int in parts and float in parts:
        parts.remove(int)
    words = []
    for part in parts:
        if typing.get_origin(part) is list:
            (item,) = typing.get_args(part)
            words.append(("lists of " if many else "a list of ") + type_words(item, many=True))
        else:
            words.append((_MANY if many else _ONE)[typing.get_origin(part) or part])
    return " or ".join(words)
