"""dp_ipi against servers that break the protocol, stall, vanish, or send structures that nobody can evaluate.

The table says what the server does, which exit status and which words are due. Everything runs under the address and
undefined-behaviour sanitizers on a stand-in of libdeepmd; the installed program meets the same scripts in
test_ipi_installed.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ipi_fixtures
import numpy as np
import pytest
from hostile_scripts import SCRIPTS, Script
from ipi_fixtures import CELL, NAMES, POSITIONS, Engine
from ipi_server import Connection, meet

standin = ipi_fixtures.standin

SANITIZER_WORDS = ("AddressSanitizer", "runtime error", "LeakSanitizer")


def judge(outcome, script: Script) -> None:
    """Exit status, words, and nothing sent that the script did not earn."""
    assert outcome.code == script.code, f"exit {outcome.code}, expected {script.code}; stderr: {outcome.err}"
    for word in script.words:
        assert word in outcome.err, f"'{word}' is not in: {outcome.err}"
    assert not any(word in outcome.err for word in SANITIZER_WORDS), outcome.err
    last = outcome.err.strip().splitlines()[-1:] or [""]
    assert script.code == 0 or last[0].startswith("dp_ipi: "), outcome.err
    for received in outcome.received:
        assert received.count(b"FORCEREADY") == script.answers


@pytest.mark.parametrize("name", SCRIPTS)
def test_hostile_server(name: str, standin: Engine, tmp_path: Path) -> None:
    script = SCRIPTS[name]
    outcome = meet(standin.command, standin.settings(timeout=1.0, **script.settings), tmp_path, [script.play], NAMES)
    judge(outcome, script)


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("nan_energy", 10, "energy or virial is not finite; it is not sent"),
        ("nan_force", 10, "force on atom 2 is not finite"),
        ("nonfinite", 10, "the model returned an energy that is not finite"),
        ("internal", 11, "the core failed"),
    ],
)
def test_core_that_breaks_its_word(fault: str, code: int, words: str, standin: Engine, tmp_path: Path) -> None:
    model = tmp_path / "model.standin"
    model.write_text(f"standin type_map O H\nfault {fault}\n")
    script = Script(SCRIPTS["work, then EXIT"].play, code, (words,), answers=0)
    outcome = meet(standin.command, standin.settings(graph_file=str(model)), tmp_path, [script.play], NAMES)
    judge(outcome, script)


def work(n_steps: int, results: list, end: Callable[[Connection], None]) -> Callable[[Connection], None]:
    """An honest server: n_steps structures, then `end`."""

    def play(connection: Connection) -> None:
        connection.start()
        for step in range(n_steps):
            connection.posdata(CELL, POSITIONS + 0.01 * step)
            results.append(connection.getforce()[0])
        end(connection)

    return play


def test_reconnect_takes_up_the_work(standin: Engine, tmp_path: Path) -> None:
    """With `reconnect` a server that vanished and came back is served as if nothing had happened."""
    results: list = []
    scripts = [
        work(2, results, lambda connection: connection.header("POSDATA")),  # dies in the middle of a message
        work(2, results, lambda connection: connection.header("EXIT")),
    ]
    outcome = meet(standin.command, standin.settings(reconnect=20.0), tmp_path, scripts, NAMES)
    assert (outcome.code, outcome.failure) == (0, None), outcome.err
    assert "trying again" in outcome.err
    assert [result["energy"] for result in results[:2]] == [result["energy"] for result in results[2:]]


@pytest.mark.parametrize("unix", [True, False], ids=["unix", "inet"])
def test_honest_server(unix: bool, standin: Engine, tmp_path: Path) -> None:
    """Numbers on the wire equal the potential written in NumPy; one list serves neighbouring steps."""
    results: list = []
    script = work(4, results, lambda connection: connection.header("EXIT"))
    outcome = meet(standin.command, standin.settings(verbose=True), tmp_path, [script], NAMES, unix=unix)
    assert (outcome.code, outcome.err) == (0, ""), outcome.err
    assert "4 structures evaluated, 1 neighbour lists built" in outcome.out
    for step, result in enumerate(results):
        expected = standin.evaluate(POSITIONS + 0.01 * step, CELL)
        for key in ("energy", "forces", "virial"):
            np.testing.assert_allclose(result[key], expected[key], rtol=1e-10, atol=1e-12)
        assert result["extra"] == "nothing"
        assert f"# energy of sys. : {result['energy']:.10e}" in outcome.out


def test_batch_equals_single(standin: Engine, tmp_path: Path) -> None:
    """A batch gives what its structures give one by one; copies that fill it up are not evaluated again."""
    frames = [POSITIONS, POSITIONS + 0.3 * np.sin(np.arange(18)).reshape(6, 3), POSITIONS * 1.01]
    cells = [CELL, CELL * 1.01, CELL]
    seen: list = []

    def play(connection: Connection) -> None:
        connection.status()
        connection.init(3, "batch_size:4")
        connection.posdata_batch([*cells, cells[-1]], [*frames, frames[-1]])
        seen.extend(connection.getforce(4))
        connection.header("EXIT")

    outcome = meet(standin.command, standin.settings(), tmp_path, [play], NAMES)
    assert (outcome.code, outcome.failure) == (0, None), outcome.err
    assert "3 structures evaluated" in outcome.out
    for result, positions, cell in zip(seen, [*frames, frames[-1]], [*cells, cells[-1]], strict=True):
        expected = standin.evaluate(positions, cell)
        np.testing.assert_allclose(result["forces"], expected["forces"], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(result["virial"], expected["virial"], rtol=1e-9, atol=1e-12)


def test_frame_parameters(standin: Engine, tmp_path: Path) -> None:
    """`fparam` reaches the model; a model that needs it is refused without, before the connection."""
    model = tmp_path / "model.standin"
    model.write_text("standin type_map O H\ndim_fparam 1\n")
    results: list = []
    script = work(1, results, lambda connection: connection.header("EXIT"))
    settings = standin.settings(graph_file=str(model))
    outcome = meet(standin.command, {**settings, "fparam": [2.0]}, tmp_path, [script], NAMES)
    assert outcome.code == 0, outcome.err
    np.testing.assert_allclose(results[0]["energy"], 2 * standin.evaluate(POSITIONS, CELL)["energy"], rtol=1e-10)
    refused = meet(standin.command, settings, tmp_path, [], NAMES)
    assert (refused.code, '"fparam" has 0 numbers, the model expects 1' in refused.err) == (2, True), refused.err


def test_open_boundaries(standin: Engine, tmp_path: Path) -> None:
    """`pbc: false` ignores the cell, even one of zeros as ASE sends for a molecule."""
    results: list = []

    def play(connection: Connection) -> None:
        connection.start()
        connection.posdata(np.zeros((3, 3)), POSITIONS)
        results.extend(connection.getforce())
        connection.header("EXIT")

    outcome = meet(standin.command, standin.settings(pbc=False), tmp_path, [play], NAMES)
    assert outcome.code == 0, outcome.err
    np.testing.assert_allclose(
        results[0]["forces"], standin.evaluate(POSITIONS, None)["forces"], rtol=1e-10, atol=1e-12
    )
