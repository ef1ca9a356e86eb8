"""The rules between the rooms and the size budgets of ARCHITECTURE.md, read from the sources themselves."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("python", "cxx", "lammps_plugin", "ipi_driver", "examples", "tests", "benchmarks")
LINES_IN_FILE = {".py": 600, ".cpp": 600, ".cu": 600, ".hpp": 400, ".h": 400}
LINES_IN_FUNCTION = 80


def sources(*folders: str, suffixes: tuple[str, ...] = tuple(LINES_IN_FILE)) -> list[Path]:
    """The source files below the given folders of the repository, without what runs and builds leave there."""
    found = (path for folder in folders for path in sorted((ROOT / folder).rglob("*")) if path.suffix in suffixes)
    return [path for path in found if not {"run", "build", "__pycache__"} & set(path.relative_to(ROOT).parts[:-1])]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources(*ROOMS), ids=name)
def test_file_stays_in_its_budget(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_IN_FILE[path.suffix]


def functions_of_python(path: Path) -> list[tuple[str, int]]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(node.name, node.end_lineno - node.lineno + 1) for node in ast.walk(tree) if isinstance(node, kinds)]


def functions_of_cpp(path: Path) -> list[tuple[str, int]]:
    """Blocks that open after a closing parenthesis and end at a brace of the same indentation (the style used here)."""
    found, lines = [], path.read_text().splitlines()
    for start, line in enumerate(lines):
        opening = re.match(r"^(\s{0,2})\S.*\)\s*(const|noexcept|override|\s)*\{$", line)
        if opening and not re.match(r"\s*(if|for|while|switch|else|\})\b", line):
            end = next((k for k in range(start, len(lines)) if lines[k].startswith(opening[1] + "}")), start)
            found.append((line.strip(), end - start + 1))
    return found


@pytest.mark.parametrize("path", sources("python", "cxx", "lammps_plugin", "ipi_driver", "examples"), ids=name)
def test_functions_stay_in_their_budget(path: Path) -> None:
    functions = functions_of_python(path) if path.suffix == ".py" else functions_of_cpp(path)
    assert [function for function in functions if function[1] > LINES_IN_FUNCTION] == []


FORBIDDEN_IN_CODE = {
    "cxx": r"#include\s*[<\"](mpi\.h|lammps|pair\.h|atom\.h|force\.h|comm\.h|neigh_list\.h)|LAMMPS_NS",
    "cxx/src/kernels": r"#include\s*[<\"](torch|ATen|c10)/",
    "cxx/src/neighbors": r"#include\s*[<\"](torch|ATen|c10)/",
    "cxx/src/core": r"#include\s*[<\"](torch|ATen|c10)/",
    "cxx/include": r"#include\s*[<\"](torch|ATen|c10|pybind11)/",
    "ipi_driver": r"#include\s*[<\"](torch|ATen|c10|mpi\.h)",
    "lammps_plugin": r"#include\s*[<\"](torch|ATen|c10|pybind11)/",
    "python": r"^\s*(import|from)\s+(lammps|ipi|mpi4py)\b",
}
ALLOWED = {"python": ("doctor.py", "calculator.py")}


@pytest.mark.parametrize("room", FORBIDDEN_IN_CODE)
def test_room_includes_nothing_that_belongs_elsewhere(room: str) -> None:
    pattern = re.compile(FORBIDDEN_IN_CODE[room], re.MULTILINE)
    paths = [path for path in sources(room) if path.name not in ALLOWED.get(room, ())]
    assert {name(path): pattern.search(path.read_text())[0] for path in paths if pattern.search(path.read_text())} == {}


def test_pybind_stays_in_the_bindings_and_the_compiled_module_behind_one_door() -> None:
    outside = [path for path in sources("cxx") if "bindings" not in path.parts and "pybind11/" in path.read_text()]
    assert outside == []
    doors = [path.name for path in sources("python") if re.search(r"import _core|deepmd\._core", path.read_text())]
    assert set(doors) <= {"core.py", "doctor.py"}


def test_nothing_names_a_place_on_one_machine_or_puts_work_off() -> None:
    home = "|".join(re.escape("/" + folder + "/") for folder in ("home", "root", "work", "opt"))
    later = "|".join(("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error", "x" + "fail"))
    pattern = re.compile(rf"(?<![\w.$}}])({home})\w|\b({later})\b")
    texts = sources(*ROOMS, suffixes=(*LINES_IN_FILE, ".md", ".sh", ".txt", ".json", ".toml", ".cmake"))
    texts += [path for path in ROOT.glob("*") if path.suffix in (".md", ".toml", ".txt")]
    assert {name(path): pattern.search(path.read_text())[0] for path in texts if pattern.search(path.read_text())} == {}
