"""The installed program: the command, the link to the core, and the worst of the hostile servers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ipi_fixtures
import numpy as np
import pytest
from hostile_scripts import SCRIPTS
from ipi_fixtures import CELL, NAMES, POSITIONS, Engine
from ipi_server import Connection, meet, write_input

installed = ipi_fixtures.installed

# One of each kind, and all that reach the core.
HOSTILE = [
    "work, then EXIT",
    "closes in POSDATA",
    "closes before it takes the forces",
    "stalls in POSDATA",
    "INIT of 20,000 bytes",
    "INIT of length -5",
    "unknown header",
    "GETFORCE before POSDATA",
    "too many atoms",
    "2e9 atoms",
    "other number of atoms in the second step",
    "NaN position",
    "position of 1e300",
    "atoms on top of each other",
    "all atoms at the origin",
    "singular cell",
    "left-handed cell",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_server(name: str, installed: Engine, tmp_path: Path) -> None:
    script = SCRIPTS[name]
    outcome = meet(
        installed.command, installed.settings(timeout=1.0, **script.settings), tmp_path, [script.play], NAMES
    )
    assert outcome.code == script.code, outcome.err
    for word in script.words:
        assert word in outcome.err, f"'{word}' is not in: {outcome.err}"
    assert [received.count(b"FORCEREADY") for received in outcome.received] == [script.answers]


def test_overlap_names_both_atoms(installed: Engine, tmp_path: Path) -> None:
    """Also in a batch, whose structures are evaluated as one system: the numbers are those of the structure."""
    overlap = POSITIONS.copy()
    overlap[5] = POSITIONS[1] + [0.01, 0.0, 0.0]

    def play(connection: Connection) -> None:
        connection.status()
        connection.init(0, "batch_size:3")
        connection.posdata_batch([CELL] * 3, [POSITIONS, POSITIONS + 0.1, overlap])
        connection.drain()

    outcome = meet(installed.command, installed.settings(), tmp_path, [play], NAMES)
    assert outcome.code == 9, outcome.err
    for word in ("atom 2 and", "atom 6 are 0.01 Angstrom apart"):
        assert word in outcome.err


def test_batch_equals_single(installed: Engine, tmp_path: Path) -> None:
    frames = [POSITIONS + 0.2 * np.sin(np.arange(18) + k).reshape(6, 3) for k in range(5)]
    seen: list = []

    def play(connection: Connection) -> None:
        connection.status()
        connection.init(3, "batch_size:5")
        connection.posdata_batch([CELL] * 5, frames)
        seen.extend(connection.getforce(5))
        connection.header("EXIT")

    outcome = meet(installed.command, installed.settings(), tmp_path, [play], NAMES)
    assert (outcome.code, outcome.failure) == (0, None), outcome.err
    for result, positions in zip(seen, frames, strict=True):
        expected = installed.evaluate(positions, CELL)
        for key in ("energy", "forces", "virial"):
            np.testing.assert_allclose(result[key], expected[key], rtol=1e-9, atol=1e-9)


def test_damaged_model(installed: Engine, tmp_path: Path) -> None:
    data = bytearray(Path(installed.graph_file).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged.pth").write_bytes(data)
    settings = {**installed.settings(graph_file="damaged.pth"), "use_unix": True, "host": "nobody"}
    path = write_input(tmp_path, settings, NAMES)
    done = subprocess.run([*installed.command, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3 and "damaged.pth" in done.stderr, done.stderr


def test_command(installed: Engine) -> None:
    """The command hands over arguments and exit status."""
    usage = subprocess.run(installed.command, capture_output=True, text=True, timeout=60)
    assert (usage.returncode, usage.stdout[:6]) == (0, "usage:")
    wrong = subprocess.run([*installed.command, "--nonsense"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2


def test_missing_binary_is_explained(tmp_path: Path) -> None:
    """Without the binary the command says where it looked and what to do."""
    code = (
        "import sys; from pathlib import Path; import deepmd.ipi_entry as entry; "
        f"entry._package_folders = lambda: [Path({str(tmp_path)!r})]; sys.exit(entry.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 127
    assert str(tmp_path / "bin") in done.stderr and "DEEPMD_BUILD_IPI" in done.stderr
