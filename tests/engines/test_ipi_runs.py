"""i-PI itself with dp_ipi: NVE, NPT, path integrals with several clients, batches; and ASE's server.

The installed program runs a Lennard-Jones model in a frozen file; one run is made under sanitizers on the stand-in of
libdeepmd. The numbers that i-PI writes are compared with another evaluation of the same frames.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import ipi_fixtures
import numpy as np
import pytest
from checks import tolerance
from ipi_fixtures import CELL, NAMES, POSITIONS, Engine
from ipi_runs import NPT, ResetInIpi, Run, run_ipi
from ipi_server import Server, write_input

engine = ipi_fixtures.engine
standin = ipi_fixtures.standin

RELATIVE = tolerance("i-PI")


def close(got: np.ndarray, expected: np.ndarray, scale: float, what: str) -> None:
    worst = float(np.abs(np.asarray(got) - expected).max())
    assert worst <= RELATIVE * scale, f"{what}: differs by {worst:.2e}, allowed {RELATIVE * scale:.2e}"


def compare(run: Run, engine: Engine) -> None:
    """Energies, forces and virials in i-PI's files against the engine's own evaluation of i-PI's positions."""
    for bead, trajectory in enumerate(run.positions):
        for step, positions in enumerate(trajectory):
            expected = engine.evaluate(positions, run.cells[step])
            scale = max(1.0, float(np.abs(expected["forces"]).max()))
            close(run.energies[bead, step], expected["energy"], max(1.0, abs(expected["energy"])), "energy")
            close(run.forces[bead, step], expected["forces"], scale, "forces")
            if bead == 0:
                virial = np.triu(expected["virial"].T)
                close(run.virial[step], virial, max(1.0, float(np.abs(virial).max())), "virial")


@pytest.mark.parametrize("mode", ["unix", "inet"])
def test_nve(mode: str, engine: Engine, tmp_path: Path) -> None:
    run = run_ipi(engine, tmp_path, steps=8, mode=mode, clients_first=mode == "unix")
    compare(run, engine)
    assert "EXIT received, 9 structures evaluated, 1 neighbour lists built" in run.outs[0]
    drift = np.ptp(run.conserved) / np.ptp(run.energies)
    assert drift < 0.05, f"conserved quantity moves by {drift:.3f} of the potential energy's range"


def test_variable_cell(engine: Engine, tmp_path: Path) -> None:
    run = run_ipi(engine, tmp_path, steps=8, motion=NPT)
    assert np.ptp(run.cells[:, 0, 0]) > 1e-4
    compare(run, engine)


@pytest.mark.parametrize(
    "options", ["", "<consolidate_messages>False</consolidate_messages>"], ids=["fused", "threads"]
)
def test_path_integral_with_two_clients(options: str, engine: Engine, tmp_path: Path) -> None:
    run = run_ipi(engine, tmp_path, steps=5, n_beads=4, n_clients=2, socket_options=options)
    compare(run, engine)
    counts = [int(out.rsplit("EXIT received, ", 1)[1].split()[0]) for out in run.outs]
    assert sum(counts) == 4 * 6
    assert np.ptp(run.positions[:, -1], axis=0).max() > 1e-3, "the beads did not spread"


def test_path_integral_under_sanitizers(standin: Engine, tmp_path: Path) -> None:
    compare(run_ipi(standin, tmp_path, steps=3, n_beads=3, n_clients=2, motion=NPT), standin)


def test_path_integral_survives_the_loss_of_a_client(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """A client is killed while it computes; i-PI gives its beads to the others and the numbers stay right.

    dp_ipi keeps the kernel's queue empty, so i-PI sees an orderly end. Only if the kill comes between the arrival of a
    message and its reading does i-PI 3.3 see a reset, which stops it whoever the client is; then another run decides.
    """
    slow = ipi_fixtures.standin_engine(tmp_path_factory, "delay 100")
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        try:
            run = run_ipi(slow, folder, steps=8, n_beads=4, n_clients=3, kill_first_after=4, kill_delay=0.05)
        except ResetInIpi:
            continue
        assert run.codes == [-9, 0, 0]
        compare(run, slow)
        return
    pytest.fail("i-PI saw a connection reset in three runs of three: dp_ipi leaves bytes unread")


def test_clients_end_when_i_pi_is_killed(engine: Engine, tmp_path: Path) -> None:
    """`kill -9` of i-PI: every client says so and exits with its code for that."""
    with pytest.raises(AssertionError, match=r"clients: \[5\].*(closed the connection|connection broke)"):
        run_ipi(engine, tmp_path, steps=10**6, n_clients=1, kill_ipi_after=3)


def test_path_integral_in_batches(engine: Engine, tmp_path: Path) -> None:
    """Batches of three for four beads: the second one is filled up with copies."""
    run = run_ipi(engine, tmp_path, steps=4, n_beads=4, socket_options="<batch_size>3</batch_size>")
    compare(run, engine)
    # All beads start at the same place: two structures in the first step, then four a step.
    assert "18 structures evaluated" in run.outs[0], "copies were evaluated"


def test_ase_server(engine: Engine, tmp_path: Path) -> None:
    """ASE's SocketIOCalculator, which sends INIT with one byte, and hangs up without EXIT."""
    ase = pytest.importorskip("ase")
    from ase.calculators.socketio import SocketIOCalculator

    with Server(unix=False) as probe:  # only to find a free port
        port = probe.config["port"]
    settings = {**engine.settings(), "use_unix": False, "host": "localhost", "port": port}
    path = write_input(tmp_path, settings, NAMES)
    client = subprocess.Popen([*engine.command, str(path)], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        atoms = ase.Atoms(NAMES, positions=POSITIONS, cell=CELL, pbc=True)
        with SocketIOCalculator(port=port) as calculator:
            atoms.calc = calculator
            for step in range(3):
                atoms.positions = POSITIONS + 0.05 * step * np.cos(np.arange(18)).reshape(6, 3)
                expected = engine.evaluate(atoms.positions, CELL)
                # ASE has CODATA 2014 for bohr and hartree, i-PI other digits: they differ by 1e-7.
                np.testing.assert_allclose(atoms.get_potential_energy(), expected["energy"], rtol=3e-6)
                np.testing.assert_allclose(atoms.get_forces(), expected["forces"], rtol=3e-6, atol=1e-6)
                stress = atoms.get_stress(voigt=False)
                np.testing.assert_allclose(-stress * atoms.get_volume(), expected["virial"], rtol=3e-6, atol=1e-6)
        assert client.wait(timeout=20) == 5, client.stderr.read()
    finally:
        if client.poll() is None:
            client.kill()
        client.stderr.close()
        client.wait()
