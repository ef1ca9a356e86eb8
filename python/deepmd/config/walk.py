"""Check an input against the schema, key by key, with a sentence of our own for each thing that can be wrong."""

from __future__ import annotations

import math
import re
import typing
from typing import Any, NoReturn

from dargs import Argument, Variant

from deepmd.errors import InputError

from .built import BUILT, OF_SEVERAL_TASKS, REFUSED, check_fixed, refuse_choice, refuse_key
from .messages import fail, join, listed, members, missing, nearest, show, type_words

MAX_KEYS_SHOWN = 12
_LISTED = re.compile(r"/((list|models)\[\d+\]|qm_model|qmmm_model)")


def walk(argument: Argument, value: Any, path: str = "", root: Argument | None = None) -> None:
    """Check `value` and everything below it; aliases of keys and choices are renamed in place."""
    root = root or argument
    check_type(value, argument.dtype, path)
    if not (argument.sub_fields or argument.sub_variants):
        return
    if isinstance(value, dict):
        _walk_section(argument, value, path, root)
    elif isinstance(value, list) and argument.repeat:
        for index, entry in enumerate(value):
            check_type(entry, (dict,), f"{path}[{index}]")
            _walk_section(argument, entry, f"{path}[{index}]", root)


def _walk_section(argument: Argument, section: dict[str, Any], path: str, root: Argument) -> None:
    for key, value in section.items():
        refuse_key(join(path, key), value)
    fields = dict(argument.sub_fields)
    for variant in argument.sub_variants.values():
        fields |= _chosen(variant, section, path)
    for field in fields.values():
        _rename(field, section, path)
    for key, value in section.items():
        if key not in fields:
            _unknown(key, value, path, fields, root)
    for name, field in fields.items():
        where = join(path, name)
        if name in section:
            check_fixed(where, section[name])
            walk(field, section[name], where, root)
        elif not field.optional:
            hint = "add this key; older versions took 0.001" if name == "start_lr" else "add this key"
            missing(where, type_words(field.dtype), hint)


def _chosen(variant: Variant, section: dict[str, Any], path: str) -> dict[str, Argument]:
    """The fields of the choice that the section makes; its flag is renamed to the choice's own name."""
    flag, where = variant.flag_name, join(path, variant.flag_name)
    if flag not in section:
        if not variant.optional:
            missing(where, f"one of {listed(variant.choice_dict)}")
        name = variant.default_tag
    else:
        check_type(section[flag], (str,), where)
        name = variant.choice_alias.get(section[flag], section[flag])
        key = _LISTED.sub("", where)  # an entry of a list is chosen as one that stands alone is
        if name in BUILT[key] and name not in variant.choice_dict:  # as a whole, but not as this part of one
            fail(where, section[flag], f"one of {listed(variant.choice_dict)}")
        if name not in BUILT[key]:
            refuse_choice(where, section[flag], key)
        section[flag] = name
    return {flag: Argument(flag, str, optional=variant.optional), **variant.choice_dict[name].sub_fields}


def _rename(field: Argument, section: dict[str, Any], path: str) -> None:
    given = [name for name in (field.name, *field.alias) if name in section]
    if len(given) > 1:
        where = join(path, given[1])
        fail(where, section[given[1]], f"one of {listed(given)}, which mean the same", f"keep only {given[0]}")
    if given and given[0] != field.name:
        section[field.name] = section.pop(given[0])


def _unknown(key: object, value: Any, path: str, fields: dict[str, Argument], root: Argument) -> NoReturn:
    names = [name for field in fields.values() for name in (field.name, *field.alias)]
    names += [one.rpartition("/")[2] for one in (*REFUSED, *OF_SEVERAL_TASKS) if one.rpartition("/")[0] == path]
    homes = [home for home in _homes(root, str(key)) if home != path]
    near = nearest(key, names)
    if homes:
        remedy = f"'{key}' belongs to {' or '.join(homes[:3])}"
    elif near:
        remedy = f"did you mean '{near}'?"
    elif near := nearest(key, _all_names(root)):
        remedy = f"the nearest known key is '{near}' of {' or '.join(_homes(root, near)[:3])}"
    else:
        shown = list(fields)[:MAX_KEYS_SHOWN]
        remedy = f"known keys are {listed(shown)}{', ...' if len(fields) > len(shown) else ''}"
    section = path or "the input"
    raise InputError(
        f"{join(path, key)}: got an unknown key with the value {show(value)}, expected a key of {section}; {remedy}"
    )


def _places(argument: Argument, path: str) -> list[tuple[str, str]]:
    """All (key, section) pairs below an argument, aliases included; sections of a choice carry its name."""
    found = []
    groups = [(path, argument.sub_fields)]
    for variant in argument.sub_variants.values():
        several = len(variant.choice_dict) > 1
        for name, choice in variant.choice_dict.items():
            groups.append((f"{path} of type '{name}'" if several else path, choice.sub_fields))
    for where, fields in groups:
        for field in fields.values():
            found += [(name, where or "the input itself") for name in (field.name, *field.alias)]
            found += _places(field, join(path, field.name))
    return found


def _homes(root: Argument, key: str) -> list[str]:
    """Sections that know a key, each once."""
    homes = dict.fromkeys(where for name, where in _places(root, "") if name == key)
    refused = [one.rpartition("/")[0] for one in (*REFUSED, *OF_SEVERAL_TASKS) if one.rpartition("/")[2] == key]
    return [*homes, *(where or "the input itself" for where in refused if where not in homes)]


def _all_names(root: Argument) -> list[str]:
    return [name for name, _ in _places(root, "")]


def fits(value: Any, dtype: Any) -> bool:
    """Whether a value has a type. true is no number, and numbers are finite."""
    for one in members(dtype):
        origin = typing.get_origin(one)
        if origin is list:
            (item,) = typing.get_args(one)
            good = isinstance(value, list) and all(fits(entry, item) for entry in value)
        elif one is float:
            good = _is_number(value)
        elif one is int:
            good = isinstance(value, int) and not isinstance(value, bool)
        else:
            good = isinstance(value, type(None) if one is None else origin or one)
        if good:
            return True
    return False


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond the range of float
        return False


def check_type(value: Any, dtype: Any, path: str) -> None:
    """Fail with the path of the value, or of the first bad entry of a list, unless it has the type."""
    if fits(value, dtype):
        return
    lists = [one for one in members(dtype) if typing.get_origin(one) is list]
    if isinstance(value, list) and lists:
        items = tuple(item for one in lists for item in members(typing.get_args(one)[0]))
        for index, entry in enumerate(value):
            check_type(entry, items, f"{path}[{index}]")
    fail(path or "input", value, type_words(dtype), _type_remedy(value, dtype))


def _type_remedy(value: Any, dtype: Any) -> str:
    numbers = fits(0, dtype)
    if isinstance(value, float) and value.is_integer() and fits(int(value), dtype):
        return f"write {int(value)}"
    if isinstance(value, str) and (numbers or fits(True, dtype)):
        return "write it without quotes" if _reads_as(value, dtype) else ""
    if isinstance(value, bool) and fits("", dtype):
        return "write the word in quotes"
    if isinstance(value, bool) and numbers:
        return "true and false are not numbers here"
    if not isinstance(value, list) and fits([value], dtype):
        return f"write [{show(value)}]"
    return ""


def _reads_as(text: str, dtype: Any) -> bool:
    """Whether a string is a number or a truth value that somebody put in quotes."""
    word = text.strip().lower()
    if word in ("true", "false"):
        return fits(True, dtype)
    try:
        return math.isfinite(float(word)) and fits(0, dtype)
    except ValueError:
        return False
