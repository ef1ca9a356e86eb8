"""From what `systems` says in the input to a sorted list of systems."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from deepmd.data import sources
from deepmd.data.system import System
from deepmd.errors import DataError

XYZ_SUFFIXES = (".xyz", ".extxyz")


def load_systems(
    systems: str | Sequence[str], type_map: Sequence[str] | None = None, rglob_patterns: Sequence[str] | None = None
) -> list[System]:
    """Open all systems that `systems` names.

    A string is searched recursively for folders with type.raw; in a list, each element is. What one element yields is
    sorted and free of repeats, so that runs repeat; elements follow one another as listed. `file.hdf5#/group` and
    extxyz files are taken as well. With `rglob_patterns`, the patterns are applied below each element instead.
    """
    elements = [systems] if isinstance(systems, str | os.PathLike) else list(systems)
    if not elements:
        raise DataError("`systems` is empty, expected at least one path to a data system; add one")
    found: list[System] = []
    for element in elements:
        for path in expand(os.fspath(element), rglob_patterns):
            found.extend(open_path(path, type_map))
    return found


def open_path(path: str, type_map: Sequence[str] | None = None) -> list[System]:
    """The systems of one found path: one for a folder or group, one for each composition of an extxyz file."""
    if path.endswith(XYZ_SUFFIXES):
        from deepmd.data.extxyz import open_extxyz

        return [System(source, type_map) for source in open_extxyz(path)]
    return [System.open(path, type_map)]


def expand(element: str, rglob_patterns: Sequence[str] | None = None) -> list[str]:
    """Paths of the systems below one element, sorted, each once."""
    file_name, _, group = element.partition("#")
    if file_name.endswith(sources.HDF5_SUFFIXES) and (group or os.path.isfile(file_name)):
        found = list(_hdf5_systems(file_name, group or "/"))
    elif element.endswith(XYZ_SUFFIXES) and os.path.isfile(element):
        found = [element]
    elif rglob_patterns:
        found = list(_pattern_systems(element, rglob_patterns))
    elif os.path.isdir(element):
        found = list(_folder_systems(element))
    else:
        raise DataError(
            f"{element} does not exist, expected a data system or a folder of them; mend the path in `systems`"
        )
    if not found:
        if _is_lmdb(element):
            raise DataError(f"{element} is an LMDB data base, which is not read; convert it with dpdata (deepmd/lmdb)")
        raise DataError(
            f"{element} has no data system in it, expected a folder with type.raw; mend the path in `systems`"
        )
    return sorted(dict.fromkeys(found), key=lambda path: path.split("/"))


def _folder_systems(root: str) -> Iterator[str]:
    seen = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            inner[:] = []
            continue
        seen.add(identity)
        inner.sort()
        if "type.raw" in names:
            yield folder
            inner[:] = [name for name in inner if not name.startswith("set.")]


def _pattern_systems(root: str, patterns: Sequence[str]) -> Iterator[str]:
    if not os.path.isdir(root):
        raise DataError(
            f"{root} does not exist, expected a folder to search by rglob_patterns; mend the path in `systems`"
        )
    for pattern in patterns:
        for hit in Path(root).rglob(pattern):
            if (hit / "type.raw").is_file() or (hit.is_file() and hit.name.endswith(XYZ_SUFFIXES)):
                yield str(hit)


def _hdf5_systems(file_name: str, group: str) -> Iterator[str]:
    handle = sources.hdf5_file(file_name)
    top = handle.get(group)
    if top is None:
        raise DataError(f"{file_name} has no group {group}; list the groups with h5ls and mend the path in `systems`")
    found: list[str] = []

    def visit(node) -> None:
        if "type.raw" in node:
            found.append(f"{file_name}#{node.name}")
        for name in node:
            if not name.startswith("set.") and hasattr(node[name], "keys"):
                visit(node[name])

    visit(top)
    yield from found


def _is_lmdb(element: str) -> bool:
    return os.path.isfile(os.path.join(element, "data.mdb"))
