"""Read input.json or its YAML form; what cannot be read is told with its line and column."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from deepmd.errors import InputError

from .messages import show

MAX_NODES = 1_000_000

# Numbers such as 1e-3, which YAML 1.1 takes for strings and everybody else for numbers.
_YAML_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


def load_input(path: str | Path) -> dict[str, Any]:
    """The content of a .json, .yaml or .yml file as a dictionary."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".json", ".yaml", ".yml"):
        raise InputError(f"{path}: got an input file of type '{suffix}', expected .json, .yaml or .yml; rename it")
    text = _text(path)
    data = _json(text, path) if suffix == ".json" else _yaml(text, path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: got {show(data)}, expected sections such as model and training at the top level")
    return data


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the path of the training input") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text, expected a text file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a readable file") from None


def _json(text: str, path: Path) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return _unique(items, text, path)

    def constant(name: str) -> NoReturn:
        raise InputError(f"{path}: got {name}, expected a finite number; JSON has no {name}")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: {where} is not valid JSON: {_json_hint(text, error)}") from None
    except RecursionError:
        raise InputError(f"{path}: sections are nested too deeply, expected an input of a few levels") from None
    except ValueError:
        raise InputError(f"{path}: got a number too long to be read, expected an ordinary one") from None


def _unique(items: list[tuple[str, Any]], text: str, path: Path) -> dict[str, Any]:
    """A section as a dictionary. Keys stand once, except comments, whose name begins with `_`."""
    section: dict[str, Any] = {}
    for key, value in items:
        if key in section and not key.startswith("_"):
            lines = [text.count("\n", 0, hit.start()) + 1 for hit in re.finditer(rf'"{re.escape(key)}"\s*:', text)]
            where = f" (lines {lines[0]} and {lines[1]})" if len(lines) == 2 else ""
            raise InputError(
                f"{path}: the key '{key}' stands twice in one section{where}, with {show(section[key])} and "
                f"{show(value)}; keep one"
            )
        section[key] = value
    return section


def _json_hint(text: str, error: json.JSONDecodeError) -> str:
    """What is probably wrong at the place where JSON stopped making sense."""
    rest, before = text[error.pos :].lstrip(), text[: error.pos].rstrip()
    if not text.strip():
        return "the file is empty"
    if not rest:
        return "the file ends too early; a closing brace or bracket is missing"
    if error.msg.startswith("Extra data"):
        return "the input ends before this place; a brace or bracket is closed too early"
    if rest[0] in "/#":
        return "JSON has no comments; use a key that begins with '_', such as \"_comment\""
    if rest[0] == "," or (rest[0] in "}]" and before.endswith(",")):
        return "there is a comma too many"
    if rest[0] == "'":
        return "strings and keys need double quotes"
    if re.match(r"(True|False|None)\b", rest):
        return "write true, false or null in lower case"
    if "',' delimiter" in error.msg and rest[0] not in "}]":
        return f"a comma or a closing brace or bracket is missing before {show(rest.splitlines()[0][:30])}"
    return f"{error.msg[0].lower()}{error.msg[1:]}"


class _Loader(yaml.SafeLoader):
    """SafeLoader with numbers such as 1e-3, and without repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A section as a dictionary, as `_unique` makes it from JSON."""
        seen: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if not node.start_mark.index <= key.start_mark.index < node.end_mark.index:
                continue  # merged from another section by `<<`
            if name in seen and not name.startswith("_") and name != "<<":
                raise InputError(f"the key '{name}' stands twice in one section (lines {seen[name]} and {line})")
            seen[name] = line
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _YAML_FLOAT, list("-+.0123456789"))


def _yaml(text: str, path: Path) -> Any:
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
        _size(data, set(), {})
        return data
    except InputError as error:
        raise InputError(f"{path}: {error}; keep one of the two") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the text"
        problem = " ".join((error.problem or "it cannot be parsed").split())
        raise InputError(f"{path}: {where} is not valid YAML: {problem}") from None
    except yaml.YAMLError:
        raise InputError(f"{path}: the text holds a character that YAML does not allow") from None
    except (RecursionError, OverflowError):
        raise InputError(f"{path}: sections repeat or contain each other too often, expected a plain input") from None
    except ValueError:
        raise InputError(f"{path}: got a number or date that cannot be read, expected an ordinary one") from None


def _size(value: Any, above: set[int], known: dict[int, int]) -> int:
    """Number of values in the written-out tree. References can make a short text endless; that is refused."""
    if not isinstance(value, (dict, list)):
        return 1
    key = id(value)
    if key in above:
        raise RecursionError
    if key not in known:
        parts = value.values() if isinstance(value, dict) else value
        known[key] = 1 + sum(_size(part, above | {key}, known) for part in parts)
        if known[key] > MAX_NODES:
            raise OverflowError
    return known[key]
