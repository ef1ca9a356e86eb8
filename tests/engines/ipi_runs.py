"""Runs of i-PI itself with dp_ipi as its client: writing the input, running both, reading i-PI's files."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ipi_fixtures import CELL, NAMES, POSITIONS, Engine
from ipi_server import BOHR_PER_ANGSTROM, FORCE_PER_EV_PER_ANGSTROM, HARTREE_PER_EV, write_input

INPUT = """
<simulation verbosity='low' floatformat='%25.17e'>
  <output prefix='run'>
    <properties stride='1' filename='pots'> [ {potentials} ] </properties>
    <properties stride='1' filename='virial'> [ vir_component(index=0;bead=0) ] </properties>
    <properties stride='1' filename='conserved'> [ conserved ] </properties>
    <properties stride='1' filename='cell'> [ cell_h ] </properties>
    <trajectory stride='1' filename='pos' format='bin'> positions </trajectory>
    <trajectory stride='1' filename='frc' format='bin'> forces </trajectory>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>7</seed></prng>
  <ffsocket name='dp' mode='{mode}' pbc='false'>
    <address>{address}</address> <port>{port}</port> <latency>1e-4</latency> <timeout>60</timeout>
    {socket_options}
  </ffsocket>
  <system>
    <initialize nbeads='{n_beads}'>
      <file mode='xyz'> start.xyz </file>
      <velocities mode='thermal' units='kelvin'> 200 </velocities>
    </initialize>
    <forces> <force forcefield='dp'/> </forces>
    {motion}
    <ensemble> <temperature units='kelvin'> 200 </temperature> <pressure units='bar'> 1 </pressure> </ensemble>
  </system>
</simulation>
"""

NVE = """<motion mode='dynamics'> <dynamics mode='nve'>
  <timestep units='femtosecond'> 0.25 </timestep> </dynamics> </motion>"""
NPT = """<motion mode='dynamics'> <dynamics mode='npt'> <timestep units='femtosecond'> 0.25 </timestep>
  <barostat mode='isotropic'> <tau units='femtosecond'> 20 </tau>
    <thermostat mode='langevin'> <tau units='femtosecond'> 50 </tau> </thermostat> </barostat>
  <thermostat mode='pile_g'> <tau units='femtosecond'> 50 </tau> </thermostat> </dynamics> </motion>"""


@dataclass
class Run:
    """What i-PI wrote, in eV and A. Beads and steps are the first axes: [n_beads, n_steps, ...]."""

    energies: np.ndarray
    positions: np.ndarray
    forces: np.ndarray
    cells: np.ndarray  # [n_steps, 3, 3], vectors as rows
    virial: np.ndarray  # [n_steps, 3, 3] of bead 0; i-PI keeps its upper triangle
    conserved: np.ndarray
    codes: list[int]
    outs: list[str]
    errors: list[str]


def need_ipi() -> str:
    command = Path(sys.executable).with_name("i-pi")
    if not command.exists():
        pytest.skip("i-PI is not installed beside this Python (pip install ipi)")
    return str(command)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_start(folder: Path) -> None:
    """start.xyz for i-PI, which wants the first cell vector along x and the second in the xy plane."""
    lengths = np.linalg.norm(CELL, axis=1)
    units = CELL / lengths[:, None]
    angles = [np.degrees(np.arccos(units[a] @ units[b])) for a, b in ((1, 2), (0, 2), (0, 1))]
    numbers = " ".join(f"{value:.15f}" for value in [*lengths, *angles])
    lines = [str(len(NAMES)), f"# CELL(abcABC): {numbers} positions{{angstrom}} cell{{angstrom}}"]
    lines += [f"{name} " + " ".join(f"{x:.12f}" for x in row) for name, row in zip(NAMES, POSITIONS, strict=True)]
    (folder / "start.xyz").write_text("\n".join(lines) + "\n")


def read_binary(path: Path, n_frames: int, n_atoms: int) -> np.ndarray:
    """Frames of i-PI's binary format: cell [9], n_atoms, numbers [n_atoms,3], then names and title of fixed length."""
    data = path.read_bytes()
    size, rest = divmod(len(data), n_frames)
    assert rest == 0, f"{path.name}: {len(data)} bytes for {n_frames} frames"
    start = 9 * 8 + 8
    return np.array(
        [np.frombuffer(data, float, 3 * n_atoms, k * size + start).reshape(n_atoms, 3) for k in range(n_frames)]
    )


def read_columns(path: Path) -> np.ndarray:
    return np.loadtxt(path, ndmin=2)


def upper_triangles(path: Path) -> np.ndarray:
    """Matrices [n_steps,3,3] that i-PI writes as xx, yy, zz, xy, xz, yz."""
    columns = read_columns(path)
    matrices = np.zeros((len(columns), 3, 3))
    for column, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]):
        matrices[:, a, b] = columns[:, column]
    return matrices


def read_run(folder: Path, n_beads: int, steps: int) -> Run:
    n_frames = steps + 1
    frames = {}
    for what in ("pos", "frc"):
        paths = sorted(folder.glob(f"run.{what}_*.bin"))
        assert len(paths) == n_beads, [path.name for path in paths]
        frames[what] = np.array([read_binary(path, n_frames, len(NAMES)) for path in paths])
    cells = upper_triangles(folder / "run.cell")
    volumes = np.linalg.det(cells)[:, None, None]  # i-PI writes the virial divided by it
    return Run(
        energies=read_columns(folder / "run.pots").T / HARTREE_PER_EV,
        positions=frames["pos"] / BOHR_PER_ANGSTROM,
        forces=frames["frc"] / FORCE_PER_EV_PER_ANGSTROM,
        cells=cells.transpose(0, 2, 1) / BOHR_PER_ANGSTROM,
        virial=upper_triangles(folder / "run.virial") * volumes / HARTREE_PER_EV,
        conserved=read_columns(folder / "run.conserved")[:, 0],
        codes=[],
        outs=[],
        errors=[],
    )


class ResetInIpi(Exception):
    """i-PI 3.3 does not survive a client that dies with unread bytes: its polling thread ends with this error."""


def wait_for_end(server: subprocess.Popen, log: Path, seconds: float = 90.0) -> int:
    """The exit status of i-PI; raises ResetInIpi as soon as its log tells of that."""
    end = time.monotonic() + seconds
    while server.poll() is None:
        if "ConnectionResetError" in log.read_text():
            raise ResetInIpi
        if time.monotonic() > end:
            raise subprocess.TimeoutExpired(server.args, seconds)
        time.sleep(0.02)
    return server.returncode


def wait_for_steps(path: Path, n_steps: int, server: subprocess.Popen) -> None:
    """Wait until i-PI has written so many steps; a run that ends before that is a mistake of the test."""
    while not path.exists() or path.read_text().count("\n") <= n_steps:
        assert server.poll() is None, "i-PI ended too early"
        time.sleep(0.01)


def run_ipi(
    engine: Engine,
    folder: Path,
    steps: int = 5,
    n_beads: int = 1,
    n_clients: int = 1,
    mode: str = "unix",
    motion: str = NVE,
    socket_options: str = "",
    clients_first: bool = False,
    kill_first_after: int | None = None,
    kill_ipi_after: int | None = None,
    kill_delay: float = 0.0,
    **settings: object,
) -> Run:
    """Run i-PI for some steps with clients of the engine; checks that all of them end with status 0.

    After as many steps as given, the first client or i-PI itself is killed without warning, `kill_delay`
    seconds later.
    """
    ipi = need_ipi()
    prefix = tempfile.mkdtemp(prefix="dpipi") + "/ipi_"
    port = free_port()
    write_start(folder)
    potentials = ", ".join(f"pot_component(index=0;bead={k})" for k in range(n_beads))
    address = "127.0.0.1" if mode == "inet" else "run"
    text = INPUT.format(
        potentials=potentials,
        steps=steps,
        mode=mode,
        address=address,
        port=port,
        n_beads=n_beads,
        motion=motion,
        socket_options=socket_options,
    )
    (folder / "input.xml").write_text(text)
    where = {"use_unix": mode != "inet", "host": address, "port": port, "sockets_prefix": prefix}
    settings = {**engine.settings(coord_file="start.xyz"), **where, **settings}
    path = write_input(folder, settings)
    processes: list[subprocess.Popen] = []

    def start(command: list[str], name: str) -> subprocess.Popen:
        with open(folder / f"{name}.out", "w") as out, open(folder / f"{name}.err", "w") as err:
            processes.append(subprocess.Popen(command, cwd=folder, stdout=out, stderr=err))
        return processes[-1]

    clients = []
    try:
        if clients_first:
            clients = [start([*engine.command, str(path)], f"client{k}") for k in range(n_clients)]
            time.sleep(0.3)
        server = start([ipi, "-S", prefix, "input.xml"], "ipi")
        if not clients_first:
            clients = [start([*engine.command, str(path)], f"client{k}") for k in range(n_clients)]
        for victim, n_steps in (([*clients, server][0], kill_first_after), (server, kill_ipi_after)):
            if n_steps is not None:
                wait_for_steps(folder / "run.pots", n_steps, server)
                time.sleep(kill_delay)
                victim.kill()
        server_code = wait_for_end(server, folder / "ipi.err")
        codes = [client.wait(timeout=20) for client in clients]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(Path(prefix).parent, ignore_errors=True)
    errors = [(folder / f"client{k}.err").read_text() for k in range(n_clients)]
    log = (folder / "ipi.out").read_text()[-1500:] + (folder / "ipi.err").read_text()[-1500:]
    assert server_code == 0, f"i-PI: {log} clients: {codes} {errors}"
    lost = [] if kill_first_after is None else [-9]
    assert codes == lost + [0] * (n_clients - len(lost)), f"{errors} {log}"
    run = read_run(folder, n_beads, steps)
    run.codes, run.errors = codes, errors
    run.outs = [(folder / f"client{k}.out").read_text() for k in range(n_clients)]
    return run
