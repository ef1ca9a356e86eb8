"""dp_ipi refuses bad input before it connects: JSON, coordinate file, atom_type, model. No server runs here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import ipi_fixtures
import pytest
from ipi_fixtures import NAMES, Engine
from ipi_server import write_input

standin = ipi_fixtures.standin

ADDRESS = {"use_unix": True, "host": "nobody-listens-here"}
DROP = object()

# name: (changes to a valid input.json, exit status, words due on stderr)
BAD_SETTINGS: dict[str, tuple[dict, int, tuple[str, ...]]] = {
    "no graph_file": ({"graph_file": DROP}, 2, ('"graph_file" is missing', "the frozen model")),
    "no coord_file": ({"coord_file": DROP}, 2, ('"coord_file" is missing',)),
    "no atom_type": ({"atom_type": DROP}, 2, ('"atom_type" is missing',)),
    "no host": ({"host": DROP}, 2, ('"host" is missing',)),
    "no use_unix": ({"use_unix": DROP}, 2, ('"use_unix" is missing',)),
    "no port": ({"use_unix": False}, 2, ('"port" is missing', "ffsocket")),
    "misspelt key": ({"coordfile": "x"}, 2, ('unknown key "coordfile"', 'did you mean "coord_file"?')),
    "key of i-PI": ({"address": "x"}, 2, ('unknown key "address"', "did you mean")),
    "verbose is text": ({"verbose": "yes"}, 2, ('"verbose" is "yes"', "true or false")),
    "use_unix is 1": ({"use_unix": 1}, 2, ('"use_unix" is 1', "true or false")),
    "port is text": ({"use_unix": False, "port": "31415"}, 2, ('"port" is "31415"', "an integer from 1 to 65535")),
    "port is 0": ({"use_unix": False, "port": 0}, 2, ('"port" is 0',)),
    "port is 70000": ({"use_unix": False, "port": 70000}, 2, ('"port" is 70000',)),
    "port is 1e99": ({"use_unix": False, "port": 1e99}, 2, ('"port" is 1e+99',)),
    "host is null": ({"host": None}, 2, ('"host" is null', "a text")),
    "host is empty": ({"host": ""}, 2, ('"host" is ""', "not empty")),
    "host is too long": ({"host": "x" * 200}, 2, ("File name too long", "at most 107")),
    "graph_file is a list": ({"graph_file": ["a", "b"]}, 2, ('"graph_file" is ["a","b"]', "a text")),
    "timeout is negative": ({"timeout": -1}, 2, ('"timeout" is -1', "seconds from 0")),
    "skin is text": ({"skin": "2 A"}, 2, ('"skin" is "2 A"', "Angstrom")),
    "pbc has two flags": ({"pbc": [True, False]}, 2, ('"pbc" is [true,false]', "three of them")),
    "pbc holds numbers": ({"pbc": [1, 1, 0]}, 2, ('"pbc" is [1,1,0]',)),
    "n_threads is negative": ({"n_threads": -2}, 2, ('"n_threads" is -2',)),
    "fparam holds text": ({"fparam": [1.0, "a"]}, 2, ('"fparam"', "a list of numbers")),
    "fparam for a model without": ({"fparam": [1.0]}, 2, ('"fparam" has 1 numbers, the model expects 0',)),
    "atom_type is a list": ({"atom_type": ["O", "H"]}, 1, ("invalid atom_type configuration: got", '{"O": 0, "H": 1}')),
    "atom_type is empty": ({"atom_type": {}}, 1, ("invalid atom_type configuration",)),
    "atom_type holds a name": ({"atom_type": {"O": "O"}}, 1, ("invalid atom_type configuration", '"O" is "O"')),
    "atom_type is negative": ({"atom_type": {"O": 0, "H": -1}}, 1, ('"H" is -1', "counted from 0")),
    "atom_type is broken": ({"atom_type": {"O": 0.5, "H": 1}}, 1, ('"O" is 0.5',)),
    "atom_type is true": ({"atom_type": {"O": True, "H": 1}}, 1, ('"O" is true',)),
    "atom_type is huge": ({"atom_type": {"O": 0, "H": 10**18}}, 1, ('"H" is 1000000000000000000',)),
    "atom_type beyond the model": ({"atom_type": {"O": 0, "H": 2}}, 1, ("'H' has type 2, the model has 2 types",)),
    "a name without a type": (
        {"atom_type": {"O": 0}},
        1,
        ("dp_ipi: Unknown atom name 'H' in coordinate file: no matching entry in atom_type.",),
    ),
    "swapped types": (
        {"atom_type": {"O": 1, "H": 0}},
        1,
        ("gives 'O' the type 1, which is 'H' in the model", "has 'O' as type 0", '"check_names": false'),
    ),
    "no such coord_file": ({"coord_file": "nowhere.xyz"}, 1, ("cannot open file nowhere.xyz",)),
    "coord_file is a folder": ({"coord_file": "."}, 1, ("cannot open file .",)),
    "no such model": ({"graph_file": "nowhere.pth"}, 3, ("nowhere.pth",)),
    "not a model": ({"graph_file": "coord.xyz"}, 3, ("coord.xyz",)),
}

BAD_TEXTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "empty": ("", ("not valid JSON",)),
    "cut": ('{"verbose": tr', ("not valid JSON", "line 1")),
    "a list": ("[1, 2]", ("holds [1,2]", "an object")),
    "a number": ("3", ("holds 3",)),
    "a key twice": ('{"verbose": true, "verbose": false}', ('"verbose" is given twice',)),
    "comma at the end": ('{"verbose": true,\n}', ("not valid JSON", "line 2")),
    "not UTF-8": ('{"host": "\xff\xfe"}', ("not valid JSON",)),
    "binary": ("PK\x03\x04\x00\x00", ("not valid JSON",)),
}

BAD_STRUCTURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "empty": ("", ("is empty",)),
    "no number": ("O 0 0 0\n", ("first line", "'O 0 0 0'", "number of atoms")),
    "no atoms": ("0\n\n", ("'0'",)),
    "negative number": ("-3\n\n", ("'-3'",)),
    "broken number": ("2.5\n\n", ("'2.5'",)),
    "huge number": ("99999999999\n\n", ("'99999999999'",)),
    "too short": ("3\n\nO 0 0 0\nH 0 0 0\n", ("ends after 2 atoms", "announces 3")),
    "five words": ("2\n\nO 0 0 0\nH 0 0 0 1\n", ("wrong format, line has 5 words", "line 4", "4 (name and position)")),
    "blank line": ("2\n\nO 0 0 0\n\nH 0 0 0\n", ("wrong format, line has 0 words",)),
}


def run(engine: Engine, *words: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*engine.command, *map(str, words)], cwd=folder, capture_output=True, text=True, errors="replace", timeout=60
    )


def judge(done: subprocess.CompletedProcess[str], code: int, words: tuple[str, ...]) -> None:
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr, f"'{word}' is not in: {done.stderr}"
    assert done.stderr.startswith("dp_ipi: ") and done.stderr.count("\n") == 1, done.stderr
    assert "connecting" not in done.stdout


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings(name: str, standin: Engine, tmp_path: Path) -> None:
    changes, code, words = BAD_SETTINGS[name]
    settings = {**standin.settings(), **ADDRESS, **changes}
    settings = {key: value for key, value in settings.items() if value is not DROP}
    judge(run(standin, write_input(tmp_path, settings, NAMES), folder=tmp_path), code, words)


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_bad_json(name: str, standin: Engine, tmp_path: Path) -> None:
    text, words = BAD_TEXTS[name]
    (tmp_path / "input.json").write_bytes(text.encode("latin-1"))
    judge(run(standin, tmp_path / "input.json"), 2, words)


@pytest.mark.parametrize("name", BAD_STRUCTURES)
def test_bad_structure(name: str, standin: Engine, tmp_path: Path) -> None:
    text, words = BAD_STRUCTURES[name]
    path = write_input(tmp_path, {**standin.settings(), **ADDRESS})
    (tmp_path / "coord.xyz").write_text(text)
    judge(run(standin, path, folder=tmp_path), 1, words)


def test_good_settings_reach_the_connection(standin: Engine, tmp_path: Path) -> None:
    """Comments, names that are no elements, isotopes and lines of 7 and 10 words are fine; then nobody listens."""
    settings = {
        **standin.settings(atom_type={"OW": 0, "D": 1, "_comment": "heavy water"}),
        **ADDRESS,
        "_comment": {"any": ["thing"]},
        "_comment_2": 1,
        "connect_timeout": 0.2,
        "port": 31415,
    }
    lines = ["3", "", "OW 0 0 0", "D 0 0 0 1 1 1", "D 0 0 0 1 1 1 2 2 2\r"]
    path = write_input(tmp_path, settings)
    (tmp_path / "coord.xyz").write_text("\n".join(lines) + "\n")
    done = run(standin, path, folder=tmp_path)
    assert done.returncode == 4, done.stderr
    for words in ("waiting for i-PI", "/tmp/ipi_nobody-listens-here", "No such file or directory", "start i-PI first"):
        assert words in done.stderr
    assert done.stdout.startswith("# using data base\n")
    shown = done.stdout.split("\n", 1)[1].rsplit("\n# model", 1)[0]
    assert json.loads(shown) == settings


def test_swapped_types_on_purpose(standin: Engine, tmp_path: Path) -> None:
    settings = {**standin.settings(atom_type={"O": 1, "H": 0}), **ADDRESS, "check_names": False, "connect_timeout": 0.1}
    assert run(standin, write_input(tmp_path, settings, NAMES), folder=tmp_path).returncode == 4


def test_unknown_host_is_not_tried_again(standin: Engine, tmp_path: Path) -> None:
    settings = {**standin.settings(), "use_unix": False, "host": "no such host", "port": 31415, "connect_timeout": 50}
    done = run(standin, write_input(tmp_path, settings, NAMES), folder=tmp_path)
    assert (done.returncode, "cannot resolve host 'no such host'" in done.stderr) == (4, True), done.stderr


def test_command_line(standin: Engine, tmp_path: Path) -> None:
    usage = run(standin)
    assert usage.returncode == 0 and usage.stdout.startswith("usage: dp_ipi input.json")
    told = run(standin, "--help")
    assert told.returncode == 0
    for word in ("coord_file", "idle_timeout", "exit status", "  11  "):
        assert word in told.stdout
    assert run(standin, "--version").stdout.startswith("dp_ipi ")
    for words in (["--verbose"], ["a.json", "b.json"], [tmp_path / "nowhere.json"], [tmp_path]):
        judged = run(standin, *words)
        assert judged.returncode == 2 and judged.stderr.startswith("dp_ipi: "), judged.stderr


def test_exit_codes_are_the_same_everywhere(standin: Engine, root: Path) -> None:
    """--help and README.md list the same codes."""
    told = run(standin, "--help").stdout.split("exit status\n")[1]
    codes = [line.split()[0] for line in told.splitlines() if line.strip()]
    readme = (root / "ipi_driver" / "README.md").read_text()
    listed = [line.split("|")[1].strip() for line in readme.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert listed == codes
